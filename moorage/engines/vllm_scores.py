"""How likely a prompt is, asked of vLLM: `prompt_logprobs` of a text completion."""

from __future__ import annotations

import msgspec

from moorage.capture.packing import count
from moorage.engines.contract import Directed, PromptScores
from moorage.engines.vllm.faults import UnreadableReply
from moorage.engines.vllm.known import Known

__all__ = ["VllmScoring"]


class _Entry(msgspec.Struct):
    logprob: float
    rank: int | None = None


class _Choice(msgspec.Struct):
    prompt_logprobs: list[dict[str, _Entry] | None] | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice] = []
    prompt_logprobs: list[dict[str, _Entry] | None] | None = None


class VllmScoring:
    """One token is sampled, since a completion must have one."""

    def ask(self, prompt: Known, top_k: int, model: str | None) -> Directed:
        """See `moorage.engines.contract.Scoring`."""
        named = b"" if model is None else b',"model":' + msgspec.json.encode(model)
        asked = b'"max_tokens":1,"temperature":0,"n":1,"prompt_logprobs":%d' % top_k
        return Directed("/v1/completions", b'{"prompt":[%b],%b%b}' % (prompt.text, asked, named))

    def read(self, reply: bytes, prompt: Known) -> PromptScores | None:
        """vLLM adds a prompt's own token to a row whose `top_k` it is not among."""
        try:
            said = msgspec.json.decode(reply, type=_Reply)
            rows = said.choices[0].prompt_logprobs if said.choices else None
            rows = said.prompt_logprobs if rows is None else rows
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableReply(f"the engine's reply cannot be read: {error}") from None
        if rows is None:
            return None
        if len(rows) != count(prompt.ids):
            raise UnreadableReply(
                f"the engine gave {len(rows)} rows of log probabilities for {count(prompt.ids)} tokens"
            )
        ids = msgspec.json.decode(b"[" + prompt.text + b"]", type=list[int])
        own: list[float | None] = []
        tops: list[list[tuple[int, float]]] = []
        for position, (token, row) in enumerate(zip(ids, rows, strict=True)):
            given_row = {} if row is None or position == 0 else row
            ranked = sorted(given_row.items(), key=lambda pair: pair[1].rank or 0)
            tops.append([(int(name), entry.logprob) for name, entry in ranked])
            found = given_row.get(str(token))
            own.append(None if found is None else found.logprob)
        return PromptScores(own, tops)
