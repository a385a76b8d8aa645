"""How likely a prompt is, asked of SGLang's `/generate`."""

from __future__ import annotations

import msgspec

from moorage.engines.contract import Directed, PromptScores
from moorage.engines.sglang.ask import GENERATE
from moorage.engines.sglang.shapes import GeneratedSaid
from moorage.engines.vllm.faults import UnreadableReply
from moorage.engines.vllm.known import Known
from moorage.errors import FailedError

__all__ = ["SglangScoring"]


class SglangScoring:
    """One token is sampled; log probabilities are asked for from the prompt's first token on."""

    def ask(self, prompt: Known, top_k: int, model: str | None) -> Directed:
        """See `moorage.engines.contract.Scoring`."""
        del model
        asked = {
            "sampling_params": {"max_new_tokens": 1, "temperature": 0},
            "return_logprob": True,
            "logprob_start_len": 0,
            "top_logprobs_num": top_k,
            "return_text_in_logprobs": False,
        }
        return Directed(GENERATE, b'{"input_ids":[%b],%b}' % (prompt.text, msgspec.json.encode(asked)[1:-1]))

    def read(self, reply: bytes, prompt: Known) -> PromptScores | None:
        """Its rows have the prompt's own ids beside them, which must be those that were sent."""
        try:
            meta = msgspec.json.decode(reply, type=GeneratedSaid).meta_info
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableReply(f"the engine's reply cannot be read: {error}") from None
        own, tops = meta.input_token_logprobs, meta.input_top_logprobs
        if own is None or tops is None:
            return None
        if len(own) != len(tops):
            raise UnreadableReply(f"the engine gave {len(own)} and {len(tops)} rows of log probabilities")
        ids = msgspec.json.decode(b"[" + prompt.text + b"]", type=list[int])
        if [token for _, token, _ in own] != ids:
            message = "the engine scored other tokens than were sent"
            raise FailedError(message, code="prompt_changed_by_engine")
        rows = [
            [] if position == 0 else [(token, logprob) for logprob, token, _ in row or () if logprob is not None]
            for position, row in enumerate(tops)
        ]
        return PromptScores([None if position == 0 else one[0] for position, one in enumerate(own)], rows)
