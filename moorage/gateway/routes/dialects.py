"""Messages (Anthropic) and Responses (OpenAI) on the open routes, in sessions and in trajectories.

Each is answered as the chat that it stands for, so it is recorded, matched and retried like one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from moorage.capture.call import Extras
from moorage.gateway.dialects.dialect import Dialect, Fields, read_fields
from moorage.gateway.dialects.messages import reply as messages_reply
from moorage.gateway.dialects.messages import request as messages_request
from moorage.gateway.dialects.messages.stream import MessagesWriter
from moorage.gateway.dialects.responses import reply as responses_reply
from moorage.gateway.dialects.responses import request as responses_request
from moorage.gateway.dialects.responses.stream import ResponsesWriter
from moorage.gateway.dialects.speaking import answer_in
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.reply import Reply, Stream, json_reply
from moorage.gateway.http.request import Request
from moorage.gateway.routes import open_models, sessions, trajectories
from moorage.gateway.turns.counting import count_prompt
from moorage.gateway.turns.recorded import recorded_messages
from moorage.gateway.turns.turn import CHAT, take_turn

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.turns.live import LiveSession

__all__ = [
    "open_count",
    "open_messages",
    "open_responses",
    "session_count",
    "session_messages",
    "session_responses",
    "trajectory_count",
    "trajectory_messages",
    "trajectory_responses",
]

MESSAGES = Dialect(messages_request.to_chat, messages_reply.whole, MessagesWriter)
RESPONSES = Dialect(responses_request.to_chat, responses_reply.whole, ResponsesWriter)

LOOKED_BACK = 256
"""Calls among which a previous response is looked for."""
AT_ONCE = 8

Find = Callable[["Gateway", Request], Awaitable["LiveSession"]]
"""The session or trajectory of a path."""


async def open_messages(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST /v1/messages`."""
    return await answer_in(MESSAGES, request, partial(open_models.chat, gateway, request))


async def open_count(gateway: Gateway, request: Request) -> Reply:
    """`POST /v1/messages/count_tokens`."""
    return await _count(gateway, request, None)


async def open_responses(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST /v1/responses`."""

    async def before(chat: Fields, asked: Fields) -> Fields:
        if asked.get("previous_response_id"):
            raise _no_previous(asked["previous_response_id"], "nothing is recorded on this route; use a session")
        return chat

    return await answer_in(RESPONSES, request, partial(open_models.chat, gateway, request), before=before)


async def session_messages(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST /{uuid}/v1/messages`."""
    return await _messages(gateway, request, sessions.of_path)


async def session_count(gateway: Gateway, request: Request) -> Reply:
    """`POST /{uuid}/v1/messages/count_tokens`."""
    return await _count(gateway, request, await sessions.of_path(gateway, request))


async def session_responses(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST /{uuid}/v1/responses`."""
    return await _responses(gateway, request, sessions.of_path)


async def trajectory_messages(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST {base_url}/v1/messages`."""
    return await _messages(gateway, request, trajectories.for_call)


async def trajectory_count(gateway: Gateway, request: Request) -> Reply:
    """`POST {base_url}/v1/messages/count_tokens`."""
    return await _count(gateway, request, await trajectories.known(gateway, request.params["uid"]))


async def trajectory_responses(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST {base_url}/v1/responses`."""
    return await _responses(gateway, request, trajectories.for_call)


async def _messages(gateway: Gateway, request: Request, find: Find) -> Reply | Stream:
    live = await find(gateway, request)
    return await answer_in(MESSAGES, request, partial(take_turn, gateway, live, request, CHAT))


async def _responses(gateway: Gateway, request: Request, find: Find) -> Reply | Stream:
    live = await find(gateway, request)

    async def before(chat: Fields, asked: Fields) -> Fields:
        previous = asked.get("previous_response_id")
        if not previous:
            return chat
        seq = await _seq_of(gateway, live, str(previous))
        earlier = await recorded_messages(gateway.store, live.trajectory.uid, seq)
        return responses_request.after(earlier, chat, instructed=bool(asked.get("instructions")))

    return await answer_in(RESPONSES, request, partial(take_turn, gateway, live, request, CHAT), before=before)


async def _seq_of(gateway: Gateway, live: LiveSession, previous: str) -> int:
    """The call whose reply had that id. The latest are looked at first: it is mostly the last one."""
    latest = range(len(live.tree) - 1, max(-1, len(live.tree) - 1 - LOOKED_BACK), -1)
    for start in range(0, len(latest), AT_ONCE):
        seqs = latest[start : start + AT_ONCE]
        extras = await gateway.store.extras(live.trajectory.uid, seqs)
        for seq in seqs:
            body = msgspec.json.decode(msgspec.json.decode(extras[seq], type=Extras).body) if seq in extras else None
            if isinstance(body, dict) and responses_reply.response_id(str(body.get("id", ""))) == previous:
                return seq
    raise _no_previous(previous, f"none of the latest {LOOKED_BACK} calls of this session has it")


def _no_previous(previous: object, why: str) -> Fault:
    message = f"Previous response with id {previous!r} not found: {why}"
    return Fault(400, message, code="previous_response_not_found", param="previous_response_id")


async def _count(gateway: Gateway, request: Request, live: LiveSession | None) -> Reply:
    chat = messages_request.to_chat(read_fields(request))
    request.body = msgspec.json.encode({name: value for name, value in chat.items() if value is not None})
    return json_reply({"input_tokens": await count_prompt(gateway, request, live)})
