"""Text completions' replies without what is said of each token in text: most of such a reply, and not recorded."""

from __future__ import annotations

__all__ = ["without_token_texts"]

LOGPROBS = b'"token_logprobs":['
TEXTS = b',"tokens":['
FINISH = b'},"finish_reason":'


def without_token_texts(raw: bytes) -> bytes:
    """The reply without the tokens' texts and alternatives; as it is where it has more than one choice.

    They are cut out where vLLM writes them: after the log probabilities, up to the end of the object that holds both.
    No key can lie inside a JSON string, whose quotes would be escaped.
    """
    start = raw.find(LOGPROBS)
    end = raw.find(b"]", start) + 1
    if start < 0 or not raw.startswith(TEXTS, end):
        return raw
    finish = raw.find(FINISH, end)
    if finish < 0:
        return raw
    after = raw.find(b"{", finish)  # beyond the prompt's ids, which may be many, or in another choice
    if after >= 0 and raw.find(LOGPROBS, after) >= 0:
        return raw
    return b"".join((memoryview(raw)[:end], memoryview(raw)[finish:]))
