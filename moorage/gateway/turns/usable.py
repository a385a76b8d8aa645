"""Whether a session's parsers can be used with its tokenizer, and the renderer that it asked for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from moorage.gateway.http.faults import Fault

if TYPE_CHECKING:
    from moorage.engines.rendering.plan import Renderer
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.turns.live import LiveSession

__all__ = ["prepare_fallback", "refuse_unusable", "renderer_of"]

USUAL = "hermes"
"""The parser of whoever names none: nobody asked for it."""


async def refuse_unusable(gateway: Gateway, tool_parser: str | None, reasoning_parser: str | None) -> None:
    """Raises a Fault of 400 for a parser that was named and cannot be made for the tokenizer.

    Where the parser process does not run yet, it is started and asked meanwhile: a call that finds such a parser says
    `tool_parsing: disabled`.
    """
    parser = gateway.parser
    tool_parser = None if tool_parser == USUAL else tool_parser
    if parser is None or not parser.enabled or (tool_parser is None and reasoning_parser is None):
        return
    if parser.is_ready:
        await parser.check(tool_parser, reasoning_parser)
    else:
        parser.check_later(tool_parser, reasoning_parser)
    for kind, name in (("tool", tool_parser), ("reasoning", reasoning_parser)):
        why = parser.fault("tool" if kind == "tool" else "reasoning", name)
        if why is not None:
            message = f"{kind}_parser {name!r} cannot be used with this model's tokenizer: {why}"
            raise Fault(400, message, code="parser_unusable", param=f"{kind}_parser")


async def prepare_fallback(gateway: Gateway, family: str | None) -> None:
    """Make the renderer that writes tools as `family` does; None: the template writes them."""
    if family is not None and gateway.renderer is not None and family not in gateway.fallbacks:
        gateway.fallbacks[family] = await asyncio.to_thread(_fallback, gateway.renderer, family)


def renderer_of(gateway: Gateway, live: LiveSession) -> Renderer | None:
    """The session's; None: there is no tokenizer, or not yet."""
    family: str | None = live.trajectory.options.get("tool_fallback")
    if family is None or gateway.renderer is None:
        return gateway.renderer
    if family not in gateway.fallbacks:  # another process created the session, or this one before it was started again
        gateway.fallbacks[family] = _fallback(gateway.renderer, family)
    return gateway.fallbacks[family]


def _fallback(renderer: Renderer, family: str) -> Renderer:
    from moorage.engines.rendering.fallback import fallback_renderer

    return fallback_renderer(renderer, family)
