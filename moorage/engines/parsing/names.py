"""The parsers that vLLM knows, so that a wrong name is refused whether vLLM is installed or not.

Those of vLLM 0.32. `tests/real/test_parsing.py` compares them with the installed one.
"""

from __future__ import annotations

import difflib

from moorage.errors import UsageError

__all__ = ["FALLBACKS", "REASONING_PARSERS", "TOOL_PARSERS", "WHOLE_ALONE", "check_parsers"]

TOOL_PARSERS = frozenset(
    [
        "apertus",
        "cohere_command3",
        "cohere_command4",
        "deepseek_v3",
        "deepseek_v31",
        "deepseek_v32",
        "deepseek_v4",
        "deepseek_v41",
        "dots",
        "ernie45",
        "functiongemma",
        "gemma4",
        "gigachat3",
        "glm45",
        "glm47",
        "granite",
        "granite-20b-fc",
        "granite4",
        "hermes",
        "hf",
        "hunyuan_a13b",
        "hy_v3",
        "hy_v4",
        "inkling",
        "internlm",
        "jamba",
        "k2_horizon",
        "kimi_k2",
        "kimi_k3",
        "lfm2",
        "ling3",
        "llama3_json",
        "llama4_json",
        "llama4_pythonic",
        "longcat",
        "mimo",
        "minicpm5",
        "minimax_m2",
        "minimax_m3",
        "mistral",
        "muse_glimmer",
        "olmo3",
        "openai",
        "phi4_mini_json",
        "plamo3",
        "poolside_v1",
        "pythonic",
        "qwen3_coder",
        "qwen3_json",
        "qwen3_xml",
        "seed_oss",
        "step3",
        "step3p5",
        "xlam",
    ]
)

REASONING_PARSERS = frozenset(
    [
        "cohere_command3",
        "cohere_command4",
        "deepseek_r1",
        "deepseek_v3",
        "deepseek_v4",
        "deepseek_v41",
        "ernie45",
        "gemma4",
        "glm45",
        "glm47",
        "granite",
        "granite_thinking_parser",
        "hf",
        "holo2",
        "hunyuan_a13b",
        "hy_v3",
        "hy_v4",
        "inkling",
        "k2_horizon",
        "kimi_k2",
        "kimi_k3",
        "ling3",
        "mimo",
        "minicpmv",
        "minimax_m2",
        "minimax_m2_append_think",
        "minimax_m3",
        "mistral",
        "muse_glimmer",
        "nemotron_v3",
        "olmo3",
        "openai_gptoss",
        "plamo3",
        "poolside_v1",
        "qwen3",
        "seed_oss",
        "step3",
        "step3p5",
    ]
)


WHOLE_ALONE = frozenset(["hunyuan_a13b", "jamba", "minicpm5", "openai", "phi4_mini_json"])
"""What these find in a stream is not what they find in the whole reply, or nothing: calls come at a stream's end."""

FALLBACKS = frozenset(["hermes", "llama3_json", "pythonic"])
"""The parsers of `moorage.engines.rendering.fallback`'s families, which have their names."""


def check_parsers(tool_parser: str | None, reasoning_parser: str | None) -> None:
    """Raises UsageError `unknown_tool_parser` or `unknown_reasoning_parser`, with the list; None is no parser."""
    _check("tool", tool_parser, TOOL_PARSERS)
    _check("reasoning", reasoning_parser, REASONING_PARSERS)


def _check(kind: str, name: str | None, known: frozenset[str]) -> None:
    if name is None or name in known:
        return
    close = difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        f"{name!r} is no {kind} parser; known are {', '.join(sorted(known))}",
        code=f"unknown_{kind}_parser",
        hint=f"did you mean {close[0]!r}?" if close else f"leave {kind}_parser out for none",
        data={"known": sorted(known)},
    )
