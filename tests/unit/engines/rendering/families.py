# ruff: noqa: RUF001 - DeepSeek writes its tokens with a wide bar
"""Families of chat models: a template, a tokenizer of its kind, and by hand what stands after a sampled answer."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from moorage.engines.rendering.plan import Renderer
from moorage.engines.rendering.template import ChatTemplate
from moorage.engines.rendering.tokenizer import Tokenizer
from moorage.engines.tokenizer_files import load_tokenizer
from tests.unit.engines.rendering.vocabularies import byte_level, sentence_piece

NOW = datetime(2026, 5, 17, 14, 30)
ROOT = Path(__file__).resolve().parents[4]
CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TAGS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]
Following = list[dict[str, Any]]


@dataclass(frozen=True)
class Family:
    name: str
    tokenizer: Callable[[], Tokenizer]
    tail: Callable[[Following], str]
    """By hand: from the end of an answer to the end of the prompt, when these messages follow."""
    end: str
    """What the model writes to end a turn before a user speaks."""
    end_of_call: str = ""
    """What it writes to end a turn that calls a tool; empty: the same."""
    call: Callable[[str, str], str] | None = None
    """The text of a call (name, arguments as JSON) as the model writes it; None: no tools."""
    system: bool = True
    opening: str = ""
    """What the model itself writes before its answer."""
    flags: dict[str, bool] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


class Model:
    """A family, loaded."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.tokenizer = family.tokenizer()
        assert self.tokenizer.template is not None
        self.template = ChatTemplate(self.tokenizer.template, self.tokenizer.named)
        self.renderer = Renderer(self.tokenizer, self.template)

    def whole(self, messages: Following, **settings: Any) -> list[int]:
        """The reference: the template's text, encoded as the library does it."""
        return self.tokenizer.encode_whole(self.template.render(messages, now=NOW, **settings))


@functools.cache
def model(name: str) -> Model:
    return Model(next(family for family in FAMILIES if family.name == name))


def _tokenizer(template: str, spec: Callable[[], bytes], **config: Any) -> Callable[[], Tokenizer]:
    def load() -> Tokenizer:
        source = (Path(__file__).parent / "templates" / f"{template}.jinja").read_text(encoding="utf-8")
        made = Tokenizer.from_json(spec(), config, source)
        ends = [made.encode(text)[0] for text in config.get("ends", [])]
        return Tokenizer.from_json(spec(), {**config, "eos_token_id": ends}, source)

    return load


def _chatml(close: str = "<|im_end|>", header: str = "<|im_start|>assistant\n") -> Callable[[Following], str]:
    def tail(following: Following) -> str:
        text = close + "\n"
        for place, message in enumerate(following):
            if message["role"] == "tool":
                first = place == 0 or following[place - 1]["role"] != "tool"
                last = place + 1 == len(following) or following[place + 1]["role"] != "tool"
                text += "<|im_start|>user" if first else ""
                text += f"\n<tool_response>\n{message['content']}\n</tool_response>"
                text += "<|im_end|>\n" if last else ""
            else:
                text += f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n"
        return text + header

    return tail


def _llama3(following: Following) -> str:
    text = "<|eot_id|>"
    for message in following:
        tool = message["role"] == "tool"
        said = json.dumps(message["content"], ensure_ascii=False) if tool else message["content"].strip()
        role = "ipython" if tool else message["role"]
        text += f"<|start_header_id|>{role}<|end_header_id|>\n\n{said}<|eot_id|>"
    return text + "<|start_header_id|>assistant<|end_header_id|>\n\n"


def _mistral(following: Following) -> str:
    text = "</s>"
    for message in following:
        if message["role"] == "tool":
            said = json.dumps(message["content"], ensure_ascii=False)
            text += f'[TOOL_RESULTS] {{"content": {said}, "call_id": "{message["tool_call_id"]}"}}[/TOOL_RESULTS]'
        else:
            text += f"[INST] {message['content']}[/INST]"
    return text


def _deepseek(following: Following) -> str:
    text = "<｜end▁of▁sentence｜>"
    if following[-1]["role"] == "tool":
        results = "".join(f"<｜tool▁output▁begin｜>{one['content']}<｜tool▁output▁end｜>" for one in following)
        return f"{text}<｜tool▁outputs▁begin｜>{results}<｜tool▁outputs▁end｜>"
    return text + "".join(f"<｜User｜>{message['content']}" for message in following) + "<｜Assistant｜>"


def _glm(following: Following) -> str:
    text = ""
    for place, message in enumerate(following):
        if message["role"] == "tool":
            text += "<|observation|>" if place == 0 else ""
            text += f"\n<tool_response>\n{message['content']}\n</tool_response>"
        else:
            text += f"<|user|>\n{message['content']}"
    return text + "<|assistant|>\n"


def _gemma(following: Following) -> str:
    turns = [f"<start_of_turn>user\n{message['content'].strip()}<end_of_turn>\n" for message in following]
    return "<end_of_turn>\n" + "".join(turns) + "<start_of_turn>model\n"


def _harmony(following: Following) -> str:
    tool = following[0]["role"] == "tool"
    text = "<|call|>" if tool else "<|end|>"
    for message in following:
        if message["role"] == "tool":
            said = json.dumps(message["content"], ensure_ascii=False)
            text += f"<|start|>functions.look to=assistant<|channel|>commentary<|message|>{said}<|end|>"
        else:
            text += f"<|start|>user<|message|>{message['content']}<|end|>"
    return text + "<|start|>assistant"


def _hermes_call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def _deepseek_call(name: str, arguments: str) -> str:
    call = f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
    return f"<｜tool▁calls▁begin｜>{call}<｜tool▁calls▁end｜>"


def _glm_call(name: str, arguments: str) -> str:
    pairs = "".join(
        f"\n<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>" for key, value in json.loads(arguments).items()
    )
    return f"\n<tool_call>{name}{pairs}\n</tool_call>"


LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>"]
MISTRAL = ["<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"]
MISTRAL += ["[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]"]
DEEPSEEK = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"]
DEEPSEEK_PLAIN = ["<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"]
DEEPSEEK_PLAIN += [f"<｜tool▁{one}｜>" for one in ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep")]
DEEPSEEK_PLAIN += [f"<｜tool▁{one}｜>" for one in ("outputs▁begin", "outputs▁end", "output▁begin", "output▁end")]
GLM = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
GLM_ENDS = ["<|endoftext|>", "<|user|>", "<|observation|>"]
HARMONY = ["<|endoftext|>", "<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|return|>", "<|call|>"]

HARMONY_ENDS = ["<|return|>", "<|endoftext|>", "<|call|>"]
GEMMA = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]


def _mistral_family(name: str, scheme: str) -> Family:
    return Family(
        name,
        _tokenizer(
            "mistral",
            lambda: sentence_piece(MISTRAL, scheme=scheme),
            bos_token="<s>",
            eos_token="</s>",
            ends=["</s>"],
        ),
        _mistral,
        end="</s>",
        call=lambda name, arguments: (
            f'[TOOL_CALLS] [{{"name": "{name}", "arguments": {arguments}, "id": "call00000"}}]'
        ),
        flags={"moves": True},
    )


FAMILIES = [
    Family(
        "nano",
        lambda: load_tokenizer(ROOT / "models" / "nano"),
        _chatml(),
        end="<|im_end|>",
        call=_hermes_call,
    ),
    Family(
        "qwen3",
        _tokenizer(
            "qwen3", lambda: byte_level(CHATML, TAGS), eos_token="<|im_end|>", ends=["<|im_end|>", "<|endoftext|>"]
        ),
        _chatml(),
        end="<|im_end|>",
        call=_hermes_call,
        flags={"thinks": True},
    ),
    Family(
        "thinker",
        _tokenizer("thinker", lambda: byte_level(CHATML, TAGS), eos_token="<|im_end|>", ends=["<|im_end|>"]),
        _chatml(header="<|im_start|>assistant\n<think>\n"),
        end="<|im_end|>",
        flags={"thinks": True, "opens": True},
    ),
    Family(
        "llama3",
        _tokenizer(
            "llama3",
            lambda: byte_level(LLAMA),
            bos_token="<|begin_of_text|>",
            eos_token="<|eot_id|>",
            ends=["<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"],
        ),
        _llama3,
        end="<|eot_id|>",
        end_of_call="<|eom_id|>",
        call=lambda name, arguments: f'{{"name": "{name}", "parameters": {arguments}}}',
        flags={"trims": True},
    ),
    _mistral_family("mistral-always", "always"),
    _mistral_family("mistral-first", "first"),
    _mistral_family("mistral-legacy", "legacy"),
    Family(
        "deepseek",
        _tokenizer(
            "deepseek",
            lambda: byte_level(DEEPSEEK, DEEPSEEK_PLAIN),
            bos_token=DEEPSEEK[0],
            eos_token={"content": DEEPSEEK[1]},
            ends=[DEEPSEEK[1]],
        ),
        _deepseek,
        end=DEEPSEEK[1],
        call=_deepseek_call,
        flags={"thinks": True},
    ),
    Family(
        "glm",
        _tokenizer(
            "glm",
            lambda: byte_level(GLM, TAGS),
            eos_token="<|endoftext|>",
            ends=["<|endoftext|>", "<|user|>", "<|observation|>"],
        ),
        _glm,
        end="<|user|>",
        end_of_call="<|observation|>",
        call=_glm_call,
        flags={"trims": True, "thinks": True},
    ),
    Family(
        "gemma",
        _tokenizer(
            "gemma",
            lambda: sentence_piece(
                ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
                ["\n\n", "\n\n\n", "  "],
                scheme="never",
            ),
            bos_token="<bos>",
            eos_token="<eos>",
            ends=["<eos>", "<end_of_turn>"],
        ),
        _gemma,
        end="<end_of_turn>",
        system=False,
        flags={"trims": True},
    ),
    Family(
        "harmony",
        _tokenizer(
            "harmony",
            lambda: byte_level(HARMONY),
            eos_token="<|return|>",
            ends=["<|return|>", "<|endoftext|>", "<|call|>"],
        ),
        _harmony,
        end="<|return|>",
        end_of_call="<|call|>",
        call=lambda name, arguments: f" to=functions.{name}<|channel|>commentary json<|message|>{arguments}",
        opening="<|channel|>final<|message|>",
    ),
]
"""Those whose tails are proven; `hostile` and `unspaced` are in test_hostile.py."""
