"""What stands for tokens of an engine that gives none: the same for every call, and never to be trained on."""

from __future__ import annotations

from moorage.capture.packing import pack_floats, pack_ids

__all__ = ["COMPLETION", "LOGPROBS", "PROMPT"]

COUNT = 128
"""As many as Atropos makes up, the first of them as the prompt."""
PROMPT = pack_ids([0])
"""[1] uint32."""
COMPLETION = pack_ids(range(1, COUNT))
"""[127] uint32."""
LOGPROBS = pack_floats([-0.5] * (COUNT - 1))
"""[127] float64."""
