# ruff: noqa: RUF001  # the bars are those of the models
"""What models of each family write when they call `look(place="Rome", times=2)`, after their makers' own templates."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

__all__ = ["TEXTS", "folder_with"]

ARGUMENTS = '{"place": "Rome", "times": 2}'
NAMED = '{"name": "look", "arguments": ' + ARGUMENTS + "}"
WITH_PARAMETERS = '{"name": "look", "parameters": ' + ARGUMENTS + "}"
PYTHONIC = '[look(place="Rome", times=2)]'
XML = "<function=look>\n<parameter=place>\nRome\n</parameter>\n<parameter=times>\n2\n</parameter>\n</function>"
GLM = "<arg_key>place</arg_key><arg_value>Rome</arg_value><arg_key>times</arg_key><arg_value>2</arg_value></tool_call>"
DSML = (
    '<｜DSML｜{0}>\n<｜DSML｜invoke name="look">\n'
    '<｜DSML｜parameter name="place" string="true">Rome</｜DSML｜parameter>\n'
    '<｜DSML｜parameter name="times" string="false">2</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜{0}>'
)

TEXTS: dict[str, str] = {
    "hermes": f"<tool_call>\n{NAMED}\n</tool_call>",
    "qwen3_json": f"<tool_call>\n{NAMED}\n</tool_call>",
    "qwen3_coder": f"<tool_call>\n{XML}\n</tool_call>",
    "qwen3_xml": f"<tool_call>\n{XML}\n</tool_call>",
    "step3p5": f"<tool_call>\n{XML}\n</tool_call>",
    "mimo": f"<tool_call>\n{XML}\n</tool_call>",
    "seed_oss": f"<seed:tool_call>\n{XML}\n</seed:tool_call>",
    "llama3_json": f"<|python_tag|>{WITH_PARAMETERS}",
    "llama4_json": WITH_PARAMETERS,
    "llama4_pythonic": f"<|python_start|>{PYTHONIC}<|python_end|>",
    "pythonic": PYTHONIC,
    "olmo3": '<function_calls>\nlook(place="Rome", times=2)\n</function_calls>',
    "mistral": f"[TOOL_CALLS]look{ARGUMENTS}",
    "deepseek_v3": (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>look\n```json\n{ARGUMENTS}\n```"
        "<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "deepseek_v31": (
        f"<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>look<｜tool▁sep｜>{ARGUMENTS}<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
    ),
    "deepseek_v32": DSML.format("function_calls"),
    "deepseek_v4": DSML.format("tool_calls"),
    "glm45": f"<tool_call>look\n{GLM}",
    "glm47": f"<tool_call>look{GLM}",
    "granite": f"<|tool_call|>[{NAMED}]",
    "granite4": f"<tool_call>\n{NAMED}\n</tool_call>",
    "granite-20b-fc": f"<function_call> {NAMED}",
    "internlm": f"I look.<|action_start|><|plugin|>{WITH_PARAMETERS}<|action_end|>",
    "phi4_mini_json": f"functools[{NAMED}]",
    "kimi_k2": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.look:0<|tool_call_argument_begin|>"
        f"{ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>"
    ),
    "xlam": f"[{NAMED}]",
    "jamba": f"<tool_calls>[{NAMED}]</tool_calls>",
    "hunyuan_a13b": f"<tool_calls>[{NAMED}]</tool_calls>",
    "lfm2": f"<|tool_call_start|>{PYTHONIC}<|tool_call_end|>",
    "longcat": f"<longcat_tool_call>{NAMED}</longcat_tool_call>",
    "ernie45": f"<tool_call>\n{NAMED}\n</tool_call>\n",
    "minimax_m2": (
        '<minimax:tool_call><invoke name="look">\n<parameter name="place">Rome</parameter>\n'
        '<parameter name="times">2</parameter>\n</invoke></minimax:tool_call>'
    ),
    "gemma4": '<|tool_call>call:look{place:<|"|>Rome<|"|>,times:2}<tool_call|>',
    "functiongemma": "<start_function_call>call:look{place:<escape>Rome<escape>,times:2}<end_function_call>",
    "apertus": f'<|tools_prefix|>[{{"look": {ARGUMENTS}}}]<|tools_suffix|>',
    "step3": (
        '<｜tool_calls_begin｜><｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="look">'
        '<steptml:parameter name="place">Rome</steptml:parameter><steptml:parameter name="times">2</steptml:parameter>'
        "</steptml:invoke><｜tool_call_end｜><｜tool_calls_end｜>"
    ),
    "minicpm5": '<function name="look"><param name="place">Rome</param><param name="times">2</param></function>',
}

TOKENS = (
    *("<tool_call>", "</tool_call>", "<|tool_call|>", "<seed:tool_call>", "</seed:tool_call>"),
    *("<|python_tag|>", "<|python_start|>", "<|python_end|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
    *(
        "<｜tool▁calls▁begin｜>",
        "<｜tool▁calls▁end｜>",
        "<｜tool▁call▁begin｜>",
        "<｜tool▁call▁end｜>",
        "<｜tool▁sep｜>",
    ),
    *("<|action_start|>", "<|plugin|>", "<|action_end|>", "<tool_calls>", "</tool_calls>"),
    *("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>", "<|tool_call_begin|>", "<|tool_call_end|>"),
    *("<|tool_call_argument_begin|>", "<|tool_call_start|>", "<longcat_tool_call>", "</longcat_tool_call>"),
    *("<minimax:tool_call>", "</minimax:tool_call>", "<|tool_call>", "<tool_call|>", '<|"|>'),
    *("<start_function_call>", "<end_function_call>", "<escape>", "<|tools_prefix|>", "<|tools_suffix|>"),
    *(
        "<｜tool_calls_begin｜>",
        "<｜tool_calls_end｜>",
        "<｜tool_call_begin｜>",
        "<｜tool_call_end｜>",
        "<｜tool_sep｜>",
    ),
    *("<|channel|>", "<|constrain|>", "<|message|>", "<|call|>", "<|return|>", "<|start|>", "<assistant>"),
    *("<think:opensource>", "</think:opensource>", "<tool_calls:opensource>", "</tool_calls:opensource>"),
)
"""Tokens of those families, which nano has none of."""

PLAIN = [one for one in TOKENS if "▁" in one or "tool_calls" in one]
"""Not special in their makers' tokenizers: their parsers do not ask that they are kept."""


def folder_with(nano: Path, folder: Path) -> Path:
    """nano's tokenizer with the special tokens of all families, in a new folder."""
    shutil.copytree(nano, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    file = folder / "tokenizer.json"
    spec = json.loads(file.read_text())
    known = {token["content"]: token for token in spec["added_tokens"]}
    number = max([*spec["model"]["vocab"].values(), *(token["id"] for token in spec["added_tokens"])])
    for text in TOKENS:
        if text in known:
            continue
        number += 1
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        spec["added_tokens"].append({"id": number, "content": text, "special": text not in PLAIN, **flags})
    file.write_text(json.dumps(spec))
    return folder
