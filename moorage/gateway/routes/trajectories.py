"""Claw-R1's black-box routes: init, register, model calls under a base URL, complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from moorage.errors import ConflictError, NotFoundError
from moorage.gateway.auth.credentials import OF_SESSIONS, key_shown
from moorage.gateway.http.faults import BodyWrong
from moorage.gateway.http.reply import Reply, Stream, json_reply
from moorage.gateway.http.request import Request
from moorage.gateway.http.uids import UID_RULE, is_channel, is_prompt_uid, is_trajectory_uid
from moorage.gateway.routes.models_list import models_reply
from moorage.gateway.turns.live import LiveSession
from moorage.gateway.turns.reward_versions import complete_with
from moorage.gateway.turns.turn import CHAT, COMPLETIONS, take_turn
from moorage.pool.contract import Change, NewTrajectory

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["chat", "complete", "complete_here", "completions", "for_call", "init", "known", "models", "register"]


GIVEN = "given"
"""In a trajectory's options: the metadata of its creation, where its agent has a key of its own."""


class InitBody(msgspec.Struct, frozen=True):
    prompt_uid: str | None = None
    channel: str | None = None
    metadata: dict[str, Any] | None = None


class RegisterBody(msgspec.Struct, frozen=True):
    channel: str | None = None
    metadata: dict[str, Any] | None = None


class CompleteBody(msgspec.Struct, frozen=True):
    reward: float | None = None
    channel: str | None = None


async def init(gateway: Gateway, request: Request) -> Reply:
    """`POST /init_trajectory`: a new trajectory, and the URL under which its agent works."""
    body = request.decode(InitBody, empty=b"{}")
    check_prompt_uid(body.prompt_uid, "/prompt_uid")
    check_channel(body.channel)
    uid, made = gateway.new_uid(), gateway.new_uid()
    own = gateway.door.capability(uid)
    await gateway.sessions.create(
        NewTrajectory(
            uid=uid,
            kind="trajectory",
            prompt_uid=body.prompt_uid,
            channel=body.channel,
            metadata=body.metadata or {},
            options={"key_digest": own.digest, GIVEN: body.metadata or {}} if own is not None else {},
            offered_prompt_uid=None if body.prompt_uid else made,
            created_at=gateway.clock(),
        ),
        uid_is_new=True,
    )
    prompt_uid = body.prompt_uid or made
    host = request.header(b"host") or f"{gateway.settings.host}:{gateway.settings.port}"
    base_url = f"{'https' if gateway.settings.tls_cert else 'http'}://{host}/{uid}/{prompt_uid}"
    made_known = {
        "trajectory_uid": uid,
        "prompt_uid": prompt_uid,
        "base_url": base_url,
        "openai_base_url": f"{base_url}/v1",
        **({"api_key": own.key} if own is not None else {}),
    }
    return json_reply(made_known)


async def register(gateway: Gateway, request: Request) -> Reply:
    """`POST {base_url}/v1/register_trajectory`: channel and metadata, before the first step; repeatable."""
    body = request.decode(RegisterBody, empty=b"{}")
    check_channel(body.channel)
    live = await known(gateway, request.params["uid"])
    metadata = _registered(live, request, body.metadata)
    change = Change(prompt_uid=_unfixed(live, request), channel=body.channel, metadata=metadata)
    await _change(gateway, live, change)
    return json_reply({"status": "ok"})


async def complete_here(gateway: Gateway, request: Request) -> Reply:
    """`POST {base_url}/v1/complete_trajectory`."""
    live = await known(gateway, request.params["uid"])
    await _fix_prompt(gateway, live, request.params["prompt_uid"])
    return await _complete(gateway, live, request)


async def complete(gateway: Gateway, request: Request) -> Reply:
    """`POST /complete_trajectory/{uid}`."""
    return await _complete(gateway, await known(gateway, request.params["uid"]), request)


async def chat(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST {base_url}/v1/chat/completions`."""
    return await take_turn(gateway, await for_call(gateway, request), request, CHAT)


async def completions(gateway: Gateway, request: Request) -> Reply | Stream:
    """`POST {base_url}/v1/completions`."""
    return await take_turn(gateway, await for_call(gateway, request), request, COMPLETIONS)


async def models(gateway: Gateway, request: Request) -> Reply:
    """`GET {base_url}/v1/models`."""
    await known(gateway, request.params["uid"])
    return models_reply(gateway)


async def known(gateway: Gateway, uid: str) -> LiveSession:
    """The trajectory. Raises NotFoundError, except with `--compat claw`, which makes unknown ones known."""
    try:
        return await gateway.sessions.get(uid, "trajectory")
    except NotFoundError:
        if not gateway.settings.compat_claw:
            raise
    try:
        new = NewTrajectory(uid=uid, kind="trajectory", created_at=gateway.clock())
        return await gateway.sessions.create(new)
    except ConflictError:  # another request was first
        return await gateway.sessions.get(uid, "trajectory")


def check_prompt_uid(uid: str | None, pointer: str) -> None:
    """Raises BodyWrong for what cannot stand in a URL as a prompt's uid."""
    if uid is not None and not is_prompt_uid(uid):
        raise BodyWrong(f"{uid!r} is no prompt_uid: {UID_RULE}, and never v1", pointer)


def check_trajectory_uid(uid: str, pointer: str) -> None:
    """Raises BodyWrong for what cannot stand in a URL as a trajectory's uid."""
    if not is_trajectory_uid(uid):
        raise BodyWrong(f"{uid!r} is no trajectory_uid: {UID_RULE}, and not the first part of a route", pointer)


def check_channel(channel: str | None) -> None:
    """Raises BodyWrong for what is no channel's name."""
    if channel is not None and not is_channel(channel):
        raise BodyWrong(f"{channel!r} is no channel: letters, digits and ._- , 1 to 64 of them", "/channel")


async def for_call(gateway: Gateway, request: Request) -> LiveSession:
    live = await known(gateway, request.params["uid"])
    await _fix_prompt(gateway, live, request.params["prompt_uid"])
    return live


async def _fix_prompt(gateway: Gateway, live: LiveSession, prompt_uid: str) -> None:
    """The first use of a base URL fixes the prompt; another one later is a ConflictError."""
    if live.trajectory.prompt_uid != prompt_uid:
        await _change(gateway, live, Change(prompt_uid=prompt_uid))


def _registered(live: LiveSession, request: Request, metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """With the trajectory's own key what it was given when it was made stays: an agent writes no right answers."""
    given = live.trajectory.options.get(GIVEN)
    if metadata is None or not given or not (key_shown(request.headers) or b"").startswith(OF_SESSIONS):
        return metadata
    return {**metadata, **given}


def _unfixed(live: LiveSession, request: Request) -> str | None:
    prompt_uid = request.params["prompt_uid"]
    return None if live.trajectory.prompt_uid == prompt_uid else prompt_uid


async def _change(gateway: Gateway, live: LiveSession, change: Change) -> None:
    if change.prompt_uid is not None and not is_prompt_uid(change.prompt_uid):
        check_prompt_uid(change.prompt_uid, "")
    live.trajectory = await gateway.store.change(live.trajectory.uid, change)


async def _complete(gateway: Gateway, live: LiveSession, request: Request) -> Reply:
    body = request.decode(CompleteBody, empty=b"{}")
    check_channel(body.channel)
    live.trajectory = await complete_with(gateway, live.trajectory, body.reward, body.channel)
    gateway.sessions.forget(live.trajectory.uid)  # it is over: what asks for it once more finds it in the store
    gateway.fleet.forget(live.trajectory.uid)
    return json_reply({"status": "ok"})
