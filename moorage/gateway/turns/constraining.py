"""What an exact call tells the engine about tools: the chat route would, but it is not asked.

| the request | the engine |
| --- | --- |
| `tool_choice` required, or a function's name | may sample calls alone: in the parser's own form, else as JSON |
| `parallel_tool_calls` false, a tool with `strict` | calls are kept to the parser's form, where it has one |
| streamed, to be parsed | leaves special tokens in the text, which some parsers go by |
"""

from __future__ import annotations

from typing import Any

import msgspec

from moorage.engines.parsing.forced import forced_schema, named_tool
from moorage.engines.parsing.parsed import Asked
from moorage.engines.vllm.ask import append_fields
from moorage.gateway.http.faults import Fault
from moorage.gateway.turns.bodies import ChatAsk
from moorage.gateway.turns.call import ModelCall

__all__ = ["asked_of", "constrained", "is_forced"]


class _Limits(msgspec.Struct):
    """The fields that say how calls and texts must look."""

    parallel_tool_calls: bool | None = None
    response_format: Any = None
    structured_outputs: Any = None


async def constrained(call: ModelCall) -> ModelCall:
    """The call with what its engine is to be told added to its body. Raises a Fault of 400 for tools that are none."""
    ask = call.ask
    if not isinstance(ask, ChatAsk) or call.read is None:
        return call
    more: list[bytes] = []
    if ask.tools or ask.tool_choice is not None:
        _check_tools(ask)
        more += await _constraint(call, ask)
    if ask.stream and call.gateway.parses and (call.tool_parser is not None or call.reasoning_parser is not None):
        more.append(b'"skip_special_tokens":false')
    if not more:
        return call
    read = msgspec.structs.replace(call.read, small=append_fields(call.small_body, more))
    return msgspec.structs.replace(call, read=read)


def is_forced(call: ModelCall) -> bool:
    """Whether the reply has to be a call."""
    ask = call.ask
    if not isinstance(ask, ChatAsk) or not ask.tools:
        return False
    return ask.tool_choice == "required" or named_tool(ask.tool_choice) is not None


def asked_of(call: ModelCall) -> Asked:
    """What the parsers are told of a chat."""
    ask = call.ask
    assert isinstance(ask, ChatAsk)
    tool_parser = call.tool_parser
    return Asked(
        tool_parser=tool_parser,
        reasoning_parser=call.reasoning_parser,
        tools=ask.tools if tool_parser is not None else None,
        tool_choice=ask.tool_choice if tool_parser is not None else None,
        parallel_tool_calls=_limits(call).parallel_tool_calls if tool_parser is not None else None,
        template_kwargs=ask.chat_template_kwargs,
    )


async def _constraint(call: ModelCall, ask: ChatAsk) -> list[bytes]:
    """Fields for the engine; none where it may sample anything."""
    if not ask.tools or ask.tool_choice == "none":
        return []
    limits = _limits(call)
    forced = is_forced(call)
    strict = any(tool["function"].get("strict") for tool in ask.tools)
    if not forced and limits.parallel_tool_calls is not False and not strict:
        return []
    outputs = await _by_parser(call, limits)
    if outputs is None and forced:
        schema = forced_schema(ask.tools, ask.tool_choice, single=limits.parallel_tool_calls is False)
        outputs = {"json": schema}
    if outputs is None:
        return []
    more = [b'"structured_outputs":' + msgspec.json.encode(outputs)]
    if limits.response_format is not None:
        more.append(b'"response_format":null')
    home = call.gateway.fleet.home(call.uid)
    if "json" in outputs and home is not None and home.generates_from_ids is False:
        more.append(b'"guided_json":' + msgspec.json.encode(outputs["json"]))  # what older versions call it
    return more


async def _by_parser(call: ModelCall, limits: _Limits) -> dict[str, Any] | None:
    parser = call.gateway.parser
    if parser is None or call.tool_parser is None:
        return None
    given = {"response_format": limits.response_format, "structured_outputs": limits.structured_outputs}
    try:
        return await parser.constrain(asked_of(call), {name: one for name, one in given.items() if one is not None})
    except ValueError as fault:
        if parser.enabled:
            call.gateway.log.warning("not_constrained", request_id=call.request.id, why=str(fault))
        return None


def _limits(call: ModelCall) -> _Limits:
    """Read only where one of them stands."""
    raw = call.small_body
    if not any(name in raw for name in (b'"parallel_tool_calls"', b'"response_format"', b'"structured_outputs"')):
        return _Limits()
    try:
        return msgspec.json.decode(raw, type=_Limits)
    except msgspec.ValidationError as fault:
        raise Fault(400, f"the body is wrong: {fault}", code="body_wrong", param="parallel_tool_calls") from None


def _check_tools(ask: ChatAsk) -> None:
    names = []
    for index, tool in enumerate(ask.tools or ()):
        function = tool.get("function")
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            message = f"tools[{index}] is no function: it takes a function with a name"
            raise Fault(400, message, code="tools_wrong", param="tools")
        if not isinstance(function.get("parameters"), dict | None):
            message = f"tools[{index}].function.parameters is a JSON schema: an object, or null"
            raise Fault(400, message, code="tools_wrong", param="tools")
        names.append(function["name"])
    choice = ask.tool_choice
    if choice in (None, "none", "auto"):
        return
    name = named_tool(choice)
    if name is None and choice != "required":
        message = f"tool_choice {choice!r} is none of none, auto, required and a function's name"
        raise Fault(400, message, code="tool_choice_wrong", param="tool_choice")
    if not names:
        raise Fault(400, "tool_choice needs tools to choose from", code="tool_choice_wrong", param="tool_choice")
    if name is not None and name not in names:
        message = f"tool_choice names {name!r}, which is not in tools: {', '.join(names)}"
        raise Fault(400, message, code="tool_choice_wrong", param="tool_choice")
