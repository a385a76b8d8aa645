"""Atropos's routes: create a session, call its model, render, read its nodes, delete it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from moorage.capture.packing import unpack_ids
from moorage.capture.tree import CallTree
from moorage.capture.views.nodes import nodes_of, nodes_shown
from moorage.engines.parsing.names import FALLBACKS, REASONING_PARSERS, TOOL_PARSERS
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.reply import Reply, Stream, json_reply
from moorage.gateway.http.request import Request
from moorage.gateway.routes.models_list import models_reply
from moorage.gateway.tokenizer_proof import settled
from moorage.gateway.turns import exact, placeholders, render_by_engine
from moorage.gateway.turns.reading import read_in_session
from moorage.gateway.turns.turn import CHAT, COMPLETIONS, mode_of, take_turn
from moorage.gateway.turns.usable import prepare_fallback, refuse_unusable
from moorage.pool.contract import NewTrajectory, Trajectory

if TYPE_CHECKING:
    from moorage.engines.fleet.state import EndpointState
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.turns.live import LiveSession

__all__ = ["chat", "completions", "create", "delete", "listed", "models", "nodes", "of_path", "render"]

AT_ONCE = 64
"""Sessions that are looked at together."""


class CreateBody(msgspec.Struct, frozen=True):
    tool_parser: str | None = "hermes"
    reasoning_parser: str | None = None
    track_tree: bool = False
    base_url: str | None = None
    preserve_think_blocks: bool = True
    mode: Literal["exact", "passthrough"] | None = None
    model: str | None = None
    split: Literal["train", "eval"] = "train"
    tool_fallback: str | None = None


async def create(gateway: Gateway, request: Request) -> Reply:
    """`POST /sessions/create`."""
    body = request.decode(CreateBody, empty=b"{}")
    _check_parser("tool_parser", body.tool_parser, TOOL_PARSERS)
    _check_parser("reasoning_parser", body.reasoning_parser, REASONING_PARSERS)
    _check_parser("tool_fallback", body.tool_fallback, FALLBACKS)
    body = _with_parser_of_fallback(body)
    if gateway.serving is not None:
        body = msgspec.structs.replace(body, model=gateway.serving.meant(body.model))
    dummy = _takes_placeholders(gateway, body.base_url)
    asked = "passthrough" if dummy else body.mode or gateway.settings.mode
    if asked == "exact" and gateway.renderer is None:
        gateway.refuse_unready()
        message = "mode exact needs the model's tokenizer: start with --tokenizer-path DIR, or use passthrough"
        raise Fault(400, message, code="tokenizer_missing", param="mode")
    if asked != "passthrough":
        await refuse_unusable(gateway, body.tool_parser, body.reasoning_parser)
    uid = str(uuid.UUID(gateway.new_uid()))
    state, mode = await settled(
        gateway.fleet,
        gateway.proof,
        gateway.renderer,
        uid,
        model=body.model,
        pin=body.base_url,
        fits=(lambda _: True) if dummy else _gives_token_ids,
        asked=asked,
    )
    if body.tool_fallback is not None and mode != "exact":
        gateway.fleet.forget(uid)
        message = "tool_fallback is for exact sessions: in passthrough the engine's own template writes tools"
        raise Fault(400, message, code="fallback_needs_exact", param="tool_fallback")
    await prepare_fallback(gateway, body.tool_fallback)
    base_url = state.endpoint.base_url
    options = {**msgspec.structs.asdict(body), "mode": mode, "base_url": base_url if body.base_url else None}
    options["model_name"] = body.model or state.model_name
    options["mode_asked"] = asked
    if dummy:
        options["dummy"] = True
    own = gateway.door.capability(uid)
    if own is not None:
        options["key_digest"] = own.digest
    live = await gateway.sessions.create(
        NewTrajectory(uid=uid, kind="session", prompt_uid=uid, options=options, created_at=gateway.clock()),
        uid_is_new=True,
    )
    return json_reply(
        {
            "uuid": uid,
            "model_name": options["model_name"],
            "tool_parser": body.tool_parser,
            "tool_parsing": "enabled" if _parses_tools(gateway, body.tool_parser, mode) else "disabled",
            "mode": mode,
            "base_url": base_url,
            "created_at": live.trajectory.created_at,
            **({"tool_fallback": body.tool_fallback} if body.tool_fallback else {}),
            **({"dummy": True} if dummy else {}),
            **({"api_key": own.key} if own is not None else {}),
        }
    )


async def listed(gateway: Gateway, request: Request) -> Reply:
    """`GET /sessions`: those that are open."""
    del request
    rows = [row for row in await gateway.store.sessions("session") if row.state == "open"]
    elsewhere = {} if gateway.company is None else await gateway.company.last_used(row.uid for row in rows)
    many: list[int] = []
    for start in range(0, len(rows), AT_ONCE):
        many += await asyncio.gather(*(_count_nodes(gateway, row) for row in rows[start : start + AT_ONCE]))
    listing = []
    for row, num_nodes in zip(rows, many, strict=True):
        home = gateway.fleet.home(row.uid)
        listing.append(
            {
                "uuid": row.uid,
                "model_name": row.options.get("model_name"),
                "base_url": row.options.get("base_url") or (home and home.endpoint.base_url),
                "created_at": row.created_at,
                "last_accessed": elsewhere.get(row.uid) or gateway.sessions.used_at(row.uid) or row.created_at,
                "num_nodes": num_nodes,
                "mode": row.options.get("mode"),
            }
        )
    return json_reply({"sessions": listing})


async def nodes(gateway: Gateway, request: Request) -> Reply:
    """`GET /{uuid}/nodes[?include=undelivered]`."""
    live = await of_path(gateway, request)
    undelivered = request.query.get("include") == "undelivered"
    found = await _nodes(gateway, live.trajectory.uid, live.trajectory.options, undelivered=undelivered)
    return json_reply({"nodes": found})


async def delete(gateway: Gateway, request: Request) -> Reply:
    """`DELETE /{uuid}`: 404 the second time."""
    live = await of_path(gateway, request)
    await gateway.sessions.delete(live.trajectory.uid)
    gateway.fleet.forget(live.trajectory.uid)
    return json_reply({"status": "deleted", "uuid": live.trajectory.uid})


async def chat(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST /{uuid}/v1/chat/completions`."""
    return await take_turn(gateway, await of_path(gateway, request), request, CHAT)


async def completions(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST /{uuid}/v1/completions`."""
    return await take_turn(gateway, await of_path(gateway, request), request, COMPLETIONS)


async def models(gateway: Gateway, request: Request) -> Reply:
    """`GET /{uuid}/v1/models`: the session's model."""
    live = await of_path(gateway, request)
    return models_reply(gateway, live.trajectory.options.get("model_name"))


async def render(gateway: Gateway, request: Request) -> Reply:
    """`POST /{uuid}/v1/chat/completions/render`: exactly the ids that the same request would send; changes nothing."""
    live = await of_path(gateway, request)
    read, _ = read_in_session(live.memo, request, CHAT)
    if mode_of(gateway, live) != "exact" or read.engine_renders or gateway.renderer is None:
        return await render_by_engine.render(gateway, live, request, read.ask)
    plan = await exact.plan_chat(gateway, live, read)
    ids = unpack_ids(plan.ids)
    text = gateway.renderer.tokenizer.decode(ids, skip_special=False)
    return json_reply({"prompt_text": text, "token_ids": ids, "num_tokens": len(ids)})


def of_path(gateway: Gateway, request: Request) -> Awaitable[LiveSession]:
    """The session that stands in the path. Raises NotFoundError."""
    return gateway.sessions.get(request.params["uid"], "session")


async def _count_nodes(gateway: Gateway, row: Trajectory) -> int:
    """From memory, where it is as the store has it."""
    if not row.calls:
        return 0
    live = await gateway.sessions.current(row.uid)
    tree = CallTree() if live is None else live.tree
    for call in () if live is not None else await gateway.store.calls(row.uid):
        tree.add(call)
    return len(nodes_shown(tree, track_tree=bool(row.options.get("track_tree"))))


async def _nodes(
    gateway: Gateway, uid: str, options: dict[str, Any], *, undelivered: bool = False
) -> list[dict[str, Any]]:
    calls = await gateway.store.calls(uid)
    found = nodes_of(
        calls,
        gateway.decode_text,
        track_tree=bool(options.get("track_tree")),
        include_undelivered=undelivered,
    )
    if options.get("dummy"):
        await placeholders.with_texts(gateway, uid, found, calls)
    return found


def _check_parser(field: str, name: str | None, known: frozenset[str] | tuple[str, ...]) -> None:
    if name is not None and name not in known:
        message = f"{field} {name!r} is unknown: it is one of {', '.join(sorted(known))}"
        raise Fault(400, message, code="parser_unknown", param=field)


def _parses_tools(gateway: Gateway, parser: str | None, mode: str) -> bool:
    """In passthrough the engine parses, as it was started."""
    if parser is None or mode == "passthrough" or gateway.parser is None:
        return parser is not None and mode == "passthrough"
    return gateway.parses and gateway.parser.fault("tool", parser) is None


def _with_parser_of_fallback(body: CreateBody) -> CreateBody:
    """What a family writes, its own parser reads, where none was named."""
    if body.tool_fallback is None or body.tool_parser != "hermes":
        return body
    return msgspec.structs.replace(body, tool_parser=body.tool_fallback)


def _takes_placeholders(gateway: Gateway, pin: str | None) -> bool:
    """Whether none of the engines in question gives token ids, and that is allowed.

    Raises a Fault of 400 where it is not; NotFoundError for an unknown pin.
    """
    if not placeholders.are_needed(gateway, pin):
        return False
    if gateway.settings.allow_dummy:
        return True
    states = [gateway.fleet.find(pin)] if pin is not None else gateway.fleet.states()
    named = ", ".join(f"{state.endpoint.base_url} ({state.endpoint.server_type})" for state in states)
    message = f"{named} gives no token ids: its calls cannot be recorded; --allow-dummy records placeholders"
    raise Fault(400, message, code="engine_gives_no_token_ids", param="base_url")


def _gives_token_ids(state: EndpointState) -> bool:
    return state.records
