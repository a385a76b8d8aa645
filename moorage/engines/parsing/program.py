"""The parser process: run as a file by the Python of a vLLM environment, which has none of Moorage.

    python program.py TOKENIZER_FOLDER

One JSON object a line on standard input, one on standard output; the first line out says that it is ready. It ends
when its input ends. Module paths are those of vLLM 0.9 and later; what moved in between is looked up in both places.

| asked | answered |
| --- | --- |
| {text, ids, …} | {content, reasoning, tool_calls}: a whole reply |
| {check} | {faults}: whether the parsers can be made for this tokenizer |
| {constrain} | {structured_outputs}: what the chat route would tell the engine for this tool_choice |
| {feeds} | {deltas}: pieces of replies that are still being sampled, of many streams at once |

The parsers of an ask are `{tool_parser, reasoning_parser, tools, tool_choice, parallel_tool_calls, template_kwargs}`.
`faults` in an answer says which of them cannot be used, and why; it is answered without them.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import signal
import sys
import types
from typing import Any

TOOL_PARSERS = ("vllm.tool_parsers", "vllm.entrypoints.openai.tool_parsers")
PROTOCOLS = ("vllm.entrypoints.openai.chat_completion.protocol", "vllm.entrypoints.openai.protocol")
TOKENIZERS = ("vllm.tokenizers", "vllm.transformers_utils.tokenizer")
HARMONY = ("openai", "openai_gptoss")
"""gpt-oss has a parser of its own, whatever the two are called."""

MOST_STREAMS = 4096
"""A gateway closes its streams; were it to forget some, the oldest go."""


LONGEST_S = 120
"""The gateway ends a process that takes too long; one whose gateway is gone ends itself."""

PROBE = {"type": "function", "function": {"name": "probe", "parameters": {"type": "object"}}}


def main() -> None:
    """Serve lines until the input ends."""
    # What libraries print must not come between the replies.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    parsers = Parsers(sys.argv[1])
    _say(replies, {"ready": True, "version": _version()})
    for line in sys.stdin:
        ask = json.loads(line)
        signal.alarm(LONGEST_S)
        try:
            reply = parsers.answer(ask)
        except Exception as fault:  # whatever a parser raises is the reply to this one text
            reply = {"error": f"{type(fault).__name__}: {fault}"}
        signal.alarm(0)
        _say(replies, {"id": ask["id"], **reply})


class Parsers:
    """vLLM's parsers for one tokenizer. Parsers are made anew for each text: they keep state."""

    def __init__(self, tokenizer_folder: str) -> None:
        self._tokenizer = _load(tokenizer_folder)
        self._special = _special_texts(self._tokenizer)
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        self._added = {number: token.content for number, token in added.items()}
        self._protocol = _first_of(PROTOCOLS)
        self._kinds: dict[tuple[str | None, str | None], Any] = {}
        self._checked: dict[tuple[str | None, str | None], dict[str, str]] = {}
        self._keeps: dict[tuple[str | None, str | None, bool], bool] = {}
        self._streams: dict[str, Stream] = {}

    def answer(self, ask: dict[str, Any]) -> dict[str, Any]:
        """See the table above."""
        if "feeds" in ask:
            return {"deltas": [self._fed(*feed) for feed in ask["feeds"]]}
        if "check" in ask:
            return {"faults": self._faults(*_names(ask["check"]))}
        if "constrain" in ask:
            return self._constraint(ask["constrain"])
        return self._parsed(ask)

    def made(self, ask: dict[str, Any]) -> tuple[Any, Any, bool, dict[str, str]]:
        """(parser, request, whether it wants special tokens in the text, faults); parser None: none can be used."""
        tool, reasoning = _names(ask)
        tools = ask.get("tools")
        faults = self._faults(tool if tools else None, reasoning)
        tool = None if "tool" in faults or not tools else tool
        reasoning = None if "reasoning" in faults else reasoning
        request = self._request(ask)
        if tool is None and reasoning is None:
            return None, request, False, faults
        parser = self._new(tool, reasoning, request.tools, ask.get("template_kwargs") or {})
        return parser, request, self._keeps_special(tool, reasoning, request.tools), faults

    def without_special(self, text: str | None) -> str | None:
        """What the client may read of it."""
        for token in self._special if text else ():
            text = text.replace(token, "") if text else text
        return text

    def apart(self, text: str, ids: list[int]) -> list[tuple[str, list[int]]]:
        """A piece of several tokens with each added token on its own: some parsers do not see it among others."""
        parts, start = [], 0
        for place, token in enumerate(ids):
            name = self._added.get(token)
            if name and name in text:
                before, _, text = text.partition(name)
                parts += [(before, ids[start:place]), (name, [token])]
                start = place + 1
        return [part for part in (*parts, (text, ids[start:])) if any(part)]

    def _parsed(self, ask: dict[str, Any]) -> dict[str, Any]:
        parser, request, keeps, faults = self.made(ask)
        if parser is None:
            return {"content": self.without_special(ask["text"]), "faults": faults}
        text = ask["text"] if keeps else self.without_special(ask["text"])
        reasoning, content, calls = parser.parse(
            text, request, enable_auto_tools=True, model_output_token_ids=ask.get("ids") or []
        )
        return {
            "content": self.without_special(content),
            "reasoning": self.without_special(reasoning) or None,
            "tool_calls": [self._call(call) for call in calls or ()],
            "faults": faults,
        }

    def _call(self, call: Any) -> dict[str, Any]:
        call_id = getattr(call, "id", None) or _new_call_id()
        return {"id": call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}

    def _constraint(self, ask: dict[str, Any]) -> dict[str, Any]:
        """What vLLM's chat route would have the engine sample by; null: anything."""
        given = {name: ask[name] for name in ("response_format", "structured_outputs") if ask.get(name) is not None}
        parser, _, _, faults = self.made(ask)
        if parser is None or faults:
            return {"faults": faults}
        request = parser.adjust_request(self._request(ask, **given))
        wanted = getattr(request, "structured_outputs", None)
        if wanted is None:
            older = getattr(request, "guided_json", None)
            return {"structured_outputs": None if older is None else {"json": older}}
        fields = {one.name: getattr(wanted, one.name) for one in dataclasses.fields(wanted)}
        return {"structured_outputs": {name: value for name, value in fields.items() if value not in (None, False)}}

    def _fed(self, key: str, opens: dict[str, Any] | None, pieces: list[Any]) -> dict[str, Any]:
        """One stream's next pieces `[text, ids]`; no pieces: it is over."""
        try:
            if opens is not None:
                while len(self._streams) >= MOST_STREAMS:
                    del self._streams[next(iter(self._streams))]
                self._streams[key] = Stream(self, opens)
            if not pieces:
                self._streams.pop(key, None)
                return {}
            return self._streams[key].fed(pieces)
        except Exception as fault:  # this stream's alone
            self._streams.pop(key, None)
            return {"error": f"{type(fault).__name__}: {fault}"}

    def _faults(self, tool: str | None, reasoning: str | None) -> dict[str, str]:
        """Which of the two cannot be made for this tokenizer, and why."""
        names = (tool, reasoning)
        if names not in self._checked:
            faults = {}
            if tool is not None and (fault := self._fault(tool, None)):
                faults["tool"] = fault
            if reasoning is not None and (fault := self._fault(None, reasoning)):
                faults["reasoning"] = fault
            if tool and reasoning and not faults and (fault := self._fault(tool, reasoning)):
                faults = {"tool": fault, "reasoning": fault}
            self._checked[names] = faults
        return self._checked[names]

    def _fault(self, tool: str | None, reasoning: str | None) -> str | None:
        try:
            self._new(tool, reasoning, [], {})
        except Exception as fault:
            own = fault.__cause__ or fault  # what the parser itself says
            return f"{type(own).__name__}: {own}"
        return None

    def _new(self, tool: str | None, reasoning: str | None, tools: Any, template_kwargs: dict[str, Any]) -> Any:
        names = (tool, reasoning)
        if names not in self._kinds:
            self._kinds[names] = _kind(tool, reasoning, self._tokenizer)
        return self._kinds[names](self._tokenizer, tools, chat_template_kwargs=template_kwargs)

    def _request(self, ask: dict[str, Any], **more: Any) -> Any:
        """As vLLM's serving code has it, without the messages, which parsers do not read."""
        if ask.get("tools"):
            more |= {"tools": ask["tools"], "tool_choice": ask.get("tool_choice") or "auto"}
            if ask.get("parallel_tool_calls") is not None:
                more["parallel_tool_calls"] = ask["parallel_tool_calls"]
        return self._protocol.ChatCompletionRequest(model="model", messages=[], **more)

    def _keeps_special(self, tool: str | None, reasoning: str | None, tools: list[Any] | None) -> bool:
        """Some parsers look for special tokens, and ask that they are left in the text."""
        key = (tool, reasoning, bool(tools))
        if key not in self._keeps:
            request = self._request({"tools": [PROBE]} if tools else {})
            adjusted = self._new(tool, reasoning, request.tools, {}).adjust_request(request)
            self._keeps[key] = not adjusted.skip_special_tokens
        return self._keeps[key]


class Stream:
    """One reply that is still being sampled."""

    def __init__(self, parsers: Parsers, ask: dict[str, Any]) -> None:
        self._parsers = parsers
        self._parser, self._request, self._keeps, faults = parsers.made(ask)
        if self._parser is None or faults:
            raise ValueError(f"no parser: {faults}")
        self._prompt = ask.get("prompt") or []
        reasoning = getattr(self._parser, "reasoning_parser", None)
        marks = (getattr(reasoning, name, None) for name in ("reasoning_start_str", "reasoning_end_str"))
        self._first: dict[str, Any] = {"marks": [mark for mark in marks if mark]}

    def fed(self, pieces: list[Any]) -> dict[str, Any]:
        """{reasoning, content, tool_calls} that these pieces add, each call's parts joined; {marks} the first time.

        `marks`: the texts around thoughts. In the content, whole replies' parsers make something else of them.
        """
        joined, self._first = self._first, {}
        for text, ids in (part for piece in pieces for part in self._parsers.apart(*piece)):
            said = text if self._keeps else self._parsers.without_special(text)
            # Never finished: whoever reads the stream has the whole reply parsed at its end.
            delta = self._parser.parse_delta(said, ids, self._request, prompt_token_ids=self._prompt, finished=False)
            if delta is not None:
                _join(joined, delta)
        return joined


def _join(joined: dict[str, Any], delta: Any) -> None:
    for name in ("reasoning", "content"):
        text = getattr(delta, name, None)
        if text:
            joined[name] = joined.get(name, "") + text
    for call in delta.tool_calls or ():
        whole = joined.setdefault("tool_calls", {}).setdefault(call.index, {"arguments": ""})
        if call.id:
            whole["id"] = call.id
        function = call.function
        # Some parsers give a plain object here.
        said = function if isinstance(function, dict) else vars(function) if function is not None else {}
        if said.get("name"):
            whole["name"] = said["name"]
        whole["arguments"] += said.get("arguments") or ""


def _kind(tool: str | None, reasoning: str | None, tokenizer: Any) -> Any:
    """What vLLM's chat route makes of these names; the class that a request's parser is made of."""
    try:
        manager = importlib.import_module("vllm.parser").ParserManager
    except ModuleNotFoundError:
        return lambda *given, **more: Older(tool, reasoning, *given, **more)
    known = inspect.signature(manager.get_parser).parameters
    wanted = {
        "tool_parser_name": tool,
        "reasoning_parser_name": reasoning,
        "enable_auto_tools": True,
        "is_harmony": tool == HARMONY[0] or reasoning == HARMONY[1],
        "tokenizer": tokenizer,
    }
    kind = manager.get_parser(**{name: value for name, value in wanted.items() if name in known})
    if kind is None or not hasattr(kind, "parse_delta"):
        return lambda *given, **more: Older(tool, reasoning, *given, **more)
    return kind


class Older:
    """The same for versions of vLLM that have no parser of both kinds: whole replies alone."""

    def __init__(
        self, tool: str | None, reasoning: str | None, tokenizer: Any, tools: list[Any], chat_template_kwargs: Any
    ) -> None:
        self._tool: Any = None
        self._reasoning: Any = None
        if tool is not None:
            kind = _first_of(TOOL_PARSERS).ToolParserManager.get_tool_parser(tool)
            takes_tools = len(inspect.signature(kind.__init__).parameters) > 2
            self._tool = kind(tokenizer, tools) if takes_tools else kind(tokenizer)
        if reasoning is not None:
            kind = importlib.import_module("vllm.reasoning").ReasoningParserManager.get_reasoning_parser(reasoning)
            parameters = inspect.signature(kind.__init__).parameters.values()
            takes_kwargs = any(one.kind is one.VAR_KEYWORD or one.name == "chat_template_kwargs" for one in parameters)
            more = {"chat_template_kwargs": chat_template_kwargs} if takes_kwargs else {}
            self._reasoning = kind(tokenizer, **more)
        if self._reasoning is None and hasattr(self._tool, "skip_reasoning_parsing"):
            self._tool.skip_reasoning_parsing = True  # thoughts are content then, and stay there

    def adjust_request(self, request: Any) -> Any:
        """As the two would have it."""
        for parser in (self._reasoning, self._tool):
            if hasattr(parser, "adjust_request"):
                request = parser.adjust_request(request)
        return request

    def parse(self, text: str, request: Any, **_: Any) -> tuple[str | None, str | None, list[Any]]:
        """(reasoning, content, calls)."""
        reasoning, content = None, text
        if self._reasoning is not None:
            # The method's name in older versions ends in `_content`.
            extract = getattr(self._reasoning, "extract_reasoning", None) or self._reasoning.extract_reasoning_content
            reasoning, content = extract(text, request)
        calls: list[Any] = []
        if self._tool is not None and content:
            found = self._tool.extract_tool_calls(content, request)
            if found.tools_called:
                content = found.content
                calls = [_with_id(call) for call in found.tool_calls]
        return reasoning, content, calls

    def parse_delta(self, *_: Any, **__: Any) -> Any:
        """They have no common form of it."""
        raise NotImplementedError("this vLLM's parsers do not stream")


def _with_id(call: Any) -> Any:
    return types.SimpleNamespace(id=call.id, name=call.function.name, arguments=call.function.arguments)


def _new_call_id() -> str:
    return f"chatcmpl-tool-{os.urandom(8).hex()}"


def _special_texts(tokenizer: Any) -> list[str]:
    """Those that decoding leaves out when it is told to skip special tokens, the longest first."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    texts = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
    return sorted(filter(None, texts), key=len, reverse=True)


def _names(ask: dict[str, Any]) -> tuple[str | None, str | None]:
    return ask.get("tool_parser"), ask.get("reasoning_parser")


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
