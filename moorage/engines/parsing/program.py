"""The parser process: run as a file by the Python of a vLLM environment, which has none of Moorage.

    python program.py TOKENIZER_FOLDER

One JSON object a line on standard input, one on standard output; the first line out says that it is ready. It ends
when its input ends. Module paths are those of vLLM 0.9 and later; what moved in between is looked up in both places.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import sys
from typing import Any

TOOL_PARSERS = ("vllm.tool_parsers", "vllm.entrypoints.openai.tool_parsers")
PROTOCOLS = ("vllm.entrypoints.openai.chat_completion.protocol", "vllm.entrypoints.openai.protocol")
TOKENIZERS = ("vllm.tokenizers", "vllm.transformers_utils.tokenizer")


def main() -> None:
    """Serve lines until the input ends."""
    # What libraries print must not come between the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    parsers = Parsers(sys.argv[1])
    _say(replies, {"ready": True, "version": _version()})
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            reply = parsers.parse(ask)
        except Exception as fault:  # whatever a parser raises is the reply to this one text
            reply = {"content": ask["text"], "error": f"{type(fault).__name__}: {fault}"}
        _say(replies, {"id": ask["id"], **reply})


class Parsers:
    """vLLM's parsers for one tokenizer. Parsers are made anew for each text: some keep state."""

    def __init__(self, tokenizer_folder: str) -> None:
        self._tokenizer = _load(tokenizer_folder)
        self._special = sorted(filter(None, self._tokenizer.all_special_tokens), key=len, reverse=True)
        self._protocol = _first_of(PROTOCOLS)

    def parse(self, ask: dict[str, Any]) -> dict[str, Any]:
        """{content, reasoning, tool_calls} of {text, ids, tool_parser, reasoning_parser, tools, template_kwargs}."""
        tools = [self._protocol.ChatCompletionToolsParam(**tool) for tool in ask.get("tools") or []]
        request = self._protocol.ChatCompletionRequest(
            model="model", messages=[], **({"tools": tools, "tool_choice": "auto"} if tools else {})
        )
        tool_parser = self._tool_parser(ask.get("tool_parser"), tools)
        reasoning_parser = self._reasoning_parser(ask.get("reasoning_parser"), ask.get("template_kwargs") or {})
        if reasoning_parser is None and hasattr(tool_parser, "skip_reasoning_parsing"):
            tool_parser.skip_reasoning_parsing = True  # thoughts are content then, and stay there
        for parser in (reasoning_parser, tool_parser):
            if hasattr(parser, "adjust_request"):
                request = parser.adjust_request(request)
        text, with_special = self._text(ask, keep_special=not request.skip_special_tokens)
        reasoning, content = _split_reasoning(reasoning_parser, text, request)
        calls: list[dict[str, Any]] = []
        if tool_parser is not None and content:
            found = tool_parser.extract_tool_calls(content, request)
            if found.tools_called:
                content, calls = found.content, [_call(call) for call in found.tool_calls]
        if with_special:
            reasoning, content = self._without_special(reasoning), self._without_special(content)
        return {"content": content, "reasoning": reasoning or None, "tool_calls": calls}

    def _text(self, ask: dict[str, Any], *, keep_special: bool) -> tuple[str, bool]:
        """Some parsers look for special tokens, which the text that the engine gave has lost; whether it has them."""
        ids = ask.get("ids")
        if not keep_special or not ids:
            return ask["text"], False
        text = self._tokenizer.decode(ids, skip_special_tokens=False)
        if self._without_special(text) != self._without_special(ask["text"]):
            return ask["text"], False  # a stop string was cut off, or the engine decodes otherwise
        while ids and ids[-1] in self._tokenizer.all_special_ids:
            ids = ids[:-1]
        return self._tokenizer.decode(ids, skip_special_tokens=False), True

    def _without_special(self, text: str | None) -> str | None:
        for token in self._special if text else ():
            text = text.replace(token, "") if text else text
        return text

    def _tool_parser(self, name: str | None, tools: list[Any]) -> Any:
        if name is None or not tools:
            return None
        kind = _first_of(TOOL_PARSERS).ToolParserManager.get_tool_parser(name)
        takes_tools = len(inspect.signature(kind.__init__).parameters) > 2
        return kind(self._tokenizer, tools) if takes_tools else kind(self._tokenizer)

    def _reasoning_parser(self, name: str | None, template_kwargs: dict[str, Any]) -> Any:
        if name is None:
            return None
        kind = importlib.import_module("vllm.reasoning").ReasoningParserManager.get_reasoning_parser(name)
        parameters = inspect.signature(kind.__init__).parameters.values()
        if any(one.kind is one.VAR_KEYWORD or one.name == "chat_template_kwargs" for one in parameters):
            return kind(self._tokenizer, chat_template_kwargs=template_kwargs)
        return kind(self._tokenizer)


def _split_reasoning(parser: Any, text: str, request: Any) -> tuple[str | None, str | None]:
    if parser is None:
        return None, text
    # The method's name in older versions ends in `_content`.
    extract = getattr(parser, "extract_reasoning", None) or parser.extract_reasoning_content
    reasoning, content = extract(text, request)
    return reasoning, content


def _call(call: Any) -> dict[str, Any]:
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}


def _load(folder: str) -> Any:
    return _first_of(TOKENIZERS).get_tokenizer(folder)


def _first_of(names: tuple[str, ...]) -> Any:
    for name in names[:-1]:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as fault:
            if fault.name is None or not name.startswith(fault.name):
                raise
    return importlib.import_module(names[-1])


def _version() -> str:
    return str(getattr(importlib.import_module("vllm"), "__version__", ""))


def _say(replies: Any, value: dict[str, Any]) -> None:
    # ASCII only: half a character in a text must not end the process.
    replies.write(json.dumps(value) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
