"""How a conversation is written: the chat template, and the same in Python with the tokens to learn marked.

A Python twin, because a Jinja render a sample would cost more than the training step; a test holds them equal.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
MARKS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
"""Tokens of their own that a reader sees, because parsers look for them in the text."""

TOOLS_HEAD = (
    "# Tools\n\nTo call a function, write its name and arguments as JSON:\n"
    '<tool_call>\n{"name": <name>, "arguments": <arguments>}\n</tool_call>\n<tools>\n'
)
TOOLS_TAIL = "</tools>"
NO_THOUGHT = "<think>\n\n</think>\n\n"

TEMPLATE = r"""{%- macro text(message) -%}
    {%- if message.content is string -%}
        {{- message.content -}}
    {%- elif message.content -%}
        {%- for part in message.content if part.type == 'text' -%}{{- part.text -}}{%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- set off = enable_thinking is defined and enable_thinking is false -%}
{%- set first = messages[0] -%}
{%- if tools -%}
    {{- '<|im_start|>system\n' -}}
    {%- if first.role == 'system' -%}{{- text(first) ~ '\n\n' -}}{%- endif -%}
    {{- HEAD -}}
    {%- for tool in tools -%}
        {%- set f = tool.function if tool.function else tool -%}
        {{- '{"name": ' ~ (f.name | tojson) ~ ', "description": ' ~ ((f.description or '') | tojson)
            ~ ', "parameters": ' ~ ((f.parameters or {}) | tojson) ~ '}\n' -}}
    {%- endfor -%}
    {{- TAIL ~ '<|im_end|>\n' -}}
{%- elif first.role == 'system' -%}
    {{- '<|im_start|>system\n' ~ text(first) ~ '<|im_end|>\n' -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message.role == 'tool' -%}
        {%- if loop.first or loop.previtem.role != 'tool' -%}{{- '<|im_start|>user' -}}{%- endif -%}
        {{- '\n<tool_response>\n' ~ text(message) ~ '\n</tool_response>' -}}
        {%- if loop.last or loop.nextitem.role != 'tool' -%}{{- '<|im_end|>\n' -}}{%- endif -%}
    {%- elif message.role == 'assistant' -%}
        {%- set said = text(message) -%}
        {%- set thought = message.reasoning or message.reasoning_content -%}
        {{- '<|im_start|>assistant\n' -}}
        {%- if said.startswith('<think>') -%}
        {%- elif thought -%}
            {{- '<think>\n' ~ thought.strip('\n') ~ '\n</think>\n\n' -}}
            {%- set said = said.lstrip('\n') -%}
        {%- elif off -%}
            {{- '<think>\n\n</think>\n\n' -}}
        {%- endif -%}
        {{- said -}}
        {%- for call in (message.tool_calls or []) -%}
            {%- set f = call.function if call.function else call -%}
            {%- if said or not loop.first -%}{{- '\n' -}}{%- endif -%}
            {{- '<tool_call>\n{"name": ' ~ (f.name | tojson) ~ ', "arguments": ' -}}
            {{- (f.arguments if f.arguments is string else (f.arguments | tojson)) ~ '}\n</tool_call>' -}}
        {%- endfor -%}
        {{- '<|im_end|>\n' -}}
    {%- elif not (loop.first and message.role == 'system') -%}
        {{- '<|im_start|>' ~ message.role ~ '\n' ~ text(message) ~ '<|im_end|>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
    {%- if off -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}
{%- endif -%}"""


@dataclass(frozen=True)
class Conversation:
    """Messages as a client would send them (OpenAI's form; `reasoning` beside `content`)."""

    messages: tuple[dict[str, Any], ...]
    thinking: bool
    tools: tuple[dict[str, Any], ...] = ()
    learnt: frozenset[int] = frozenset()
    """Which messages are learnt: what the model must write itself. Only assistant messages are."""


def chat_template() -> str:
    """The Jinja template that goes with the tokenizer."""
    quoted = {"HEAD": TOOLS_HEAD, "TAIL": TOOLS_TAIL}
    text = TEMPLATE
    for name, value in quoted.items():
        text = text.replace(name, "'" + value.replace("\n", "\\n") + "'")
    return text


def write(conversation: Conversation) -> list[tuple[str, bool]]:
    """The text of a whole conversation in pieces; True marks what is learnt. Pieces end where tokens end."""
    pieces = [(_system(conversation), False)]
    for place, message in enumerate(conversation.messages):
        if message["role"] == "assistant":
            opening = f"{START}assistant\n" + ("" if conversation.thinking else NO_THOUGHT)
            pieces += [(opening, False), (_said(message) + END, place in conversation.learnt), ("\n", False)]
        elif message["role"] == "tool":
            answer = f"<tool_response>\n{message['content']}\n</tool_response>"
            pieces.append((f"{START}user\n{answer}{END}\n", False))
        elif message["role"] == "user":
            pieces.append((f"{START}user\n{message['content']}{END}\n", False))
    return pieces


def _system(conversation: Conversation) -> str:
    first = conversation.messages[0]
    own = first["content"] if first["role"] == "system" else ""
    if not conversation.tools:
        return f"{START}system\n{own}{END}\n" if own else ""
    rows = (
        f'{{"name": {json.dumps(f["name"])}, "description": {json.dumps(f["description"])}, '
        f'"parameters": {json.dumps(f["parameters"])}}}\n'
        for f in (tool["function"] for tool in conversation.tools)
    )
    return f"{START}system\n{own}" + ("\n\n" if own else "") + TOOLS_HEAD + "".join(rows) + TOOLS_TAIL + f"{END}\n"


def _said(message: dict[str, Any]) -> str:
    thought = f"<think>\n{message['reasoning']}\n</think>\n\n" if message.get("reasoning") else ""
    calls = "\n".join(
        f'<tool_call>\n{{"name": "{call["function"]["name"]}", '
        f'"arguments": {json.dumps(call["function"]["arguments"])}}}\n</tool_call>'
        for call in message.get("tool_calls", [])
    )
    return thought + message["content"] + calls
