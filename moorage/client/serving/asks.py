"""Pure: the requests to the serving API, and how their replies are read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from moorage.client.http.ask import Ask, Reply
from moorage.client.serving.values import Answer, Detail, Event, Model, NewToken, Page, Plan, Revision, Token, User
from moorage.errors import FailedError, UsageError

__all__ = [
    "create_token",
    "create_user",
    "declare",
    "delete",
    "encoded",
    "event_of",
    "events",
    "is_json",
    "logs",
    "models",
    "no_stream",
    "one",
    "patch",
    "plan",
    "plan_patch",
    "plan_rollback",
    "revisions",
    "revoke_token",
    "rollback",
    "status",
    "tokens",
    "users",
    "watch",
]

MODELS = "/api/v2/serve/models"
USERS = "/api/v2/users"
YAML, JSON = "application/yaml", "application/json"
PAGE = 1000
SILENCE_S = 40.0
"""A stream that says nothing for so long is broken: a bookmark comes every 15 seconds."""

T = TypeVar("T")


def declare(spec: bytes, *, as_json: bool, create_only: bool, key: str) -> Ask[Answer]:
    """`key`: its Idempotency-Key, so that a repetition has no further effect. Raises UsageError for what is none."""
    key = _sendable(key, "an Idempotency-Key is a text of ASCII, and no space begins or ends it")
    headers = {"content-type": JSON if as_json else YAML, "idempotency-key": key}
    if create_only:
        headers["if-none-match"] = "*"
    return Ask(method="POST", path=MODELS, content=spec, headers=headers, read=_reads(Answer), repeatable=True)


def plan(spec: bytes, *, as_json: bool, create_only: bool) -> Ask[Plan]:
    headers = {"content-type": JSON if as_json else YAML}
    if create_only:
        headers["if-none-match"] = "*"
    return Ask(
        method="POST",
        path=MODELS,
        params={"dryRun": "true"},
        content=spec,
        headers=headers,
        read=_reads(Plan),
        repeatable=True,
    )


def models(*, limit: int, page_token: str | None, state: str | None) -> Ask[Page]:
    params: dict[str, str | int | float] = {"limit": limit}
    if page_token is not None:
        params["page_token"] = page_token
    if state is not None:
        params["state"] = state
    return Ask(method="GET", path=MODELS, params=params, read=_page, repeatable=True)


def one(model_key: str) -> Ask[Detail]:
    return Ask(method="GET", path=f"{MODELS}/{_part(model_key)}", read=_detail, repeatable=True)


def patch(model_key: str, changes: Mapping[str, Any], if_match: str | None) -> Ask[Answer]:
    """Repeatable unless it is bound to an ETag: then a repetition would be refused for what the first one did."""
    return Ask(
        method="PATCH",
        path=f"{MODELS}/{_part(model_key)}",
        content=encoded(changes),
        headers=_matching(if_match),
        read=_reads(Answer),
        repeatable=if_match is None,
    )


def plan_patch(model_key: str, changes: Mapping[str, Any], if_match: str | None) -> Ask[Plan]:
    return _planned(patch(model_key, changes, if_match))


def delete(model_key: str, if_match: str | None) -> Ask[Answer]:
    return Ask(
        method="DELETE",
        path=f"{MODELS}/{_part(model_key)}",
        headers=_matching(if_match),
        read=_reads(Answer),
        repeatable=if_match is None,
    )


def rollback(model_key: str, generation: int | None, if_match: str | None) -> Ask[Answer]:
    """A repetition of one without a generation could go back further than was meant."""
    return Ask(
        method="POST",
        path=f"{MODELS}/{_part(model_key)}/rollback",
        content=encoded({} if generation is None else {"generation": generation}),
        headers=_matching(if_match),
        read=_reads(Answer),
        repeatable=generation is not None and if_match is None,
    )


def plan_rollback(model_key: str, generation: int | None, if_match: str | None) -> Ask[Plan]:
    return _planned(rollback(model_key, generation, if_match))


def revisions(model_key: str) -> Ask[tuple[Revision, ...]]:
    return Ask(
        method="GET",
        path=f"{MODELS}/{_part(model_key)}/revisions",
        read=lambda reply: tuple(_value(item, Revision, raw=True) for item in _items(reply)),
        repeatable=True,
    )


def logs(model_key: str, lines: int, generation: int | None) -> Ask[list[str]]:
    params: dict[str, str | int | float] = {"lines": lines}
    if generation is not None:
        params["generation"] = generation
    return Ask(method="GET", path=f"{MODELS}/{_part(model_key)}/logs", params=params, read=_lines, repeatable=True)


def events(model_key: str, page_token: str | None) -> Ask[tuple[tuple[Event, ...], str | None]]:
    """(events, token of the next page)"""
    params: dict[str, str | int | float] = {"limit": PAGE}
    if page_token is not None:
        params["page_token"] = page_token

    def read(reply: Reply) -> tuple[tuple[Event, ...], str | None]:
        found = tuple(_value(item, Event, raw=True) for item in _items(reply))
        return found, _object(reply).get("next_page_token")

    return Ask(method="GET", path=f"{MODELS}/{_part(model_key)}/events", params=params, read=read, repeatable=True)


def watch(model_key: str | None, after: str | None) -> Ask[None]:
    """`after`: the last id that was seen; None: first everything that is there."""
    headers = {"accept": "text/event-stream"}
    if after:
        headers["last-event-id"] = _sendable(after, "the id to go on after is not one that a watch gave")
    path = MODELS if model_key is None else f"{MODELS}/{_part(model_key)}"
    return Ask(
        method="GET",
        path=path,
        params={"watch": "true"},
        headers=headers,
        read=lambda _: None,
        timeout_s=SILENCE_S,
    )


def status() -> Ask[dict[str, Any]]:
    return Ask(method="GET", path="/api/v2/serve/status", read=_object, repeatable=True)


def create_user(user_id: str) -> Ask[User]:
    return Ask(method="POST", path=USERS, content=encoded({"user_id": user_id}), read=_reads(User, raw=False))


def users(page_token: str | None) -> Ask[tuple[tuple[User, ...], str | None]]:
    """(users, token of the next page)"""
    params: dict[str, str | int | float] = {"limit": PAGE}
    if page_token is not None:
        params["page_token"] = page_token

    def read(reply: Reply) -> tuple[tuple[User, ...], str | None]:
        found = tuple(_value(item, User, raw=False) for item in _items(reply))
        return found, _object(reply).get("next_page_token")

    return Ask(method="GET", path=USERS, params=params, read=read, repeatable=True)


def create_token(user_id: str) -> Ask[NewToken]:
    return Ask(method="POST", path=f"{USERS}/{_part(user_id)}/tokens", content=b"{}", read=_reads(NewToken, raw=False))


def tokens(user_id: str) -> Ask[tuple[Token, ...]]:
    return Ask(
        method="GET",
        path=f"{USERS}/{_part(user_id)}/tokens",
        read=lambda reply: tuple(_value(item, Token, raw=False) for item in _items(reply)),
        repeatable=True,
    )


def revoke_token(user_id: str, token_id: str) -> Ask[None]:
    return Ask(
        method="DELETE",
        path=f"{USERS}/{_part(user_id)}/tokens/{_part(token_id)}",
        read=lambda _: None,
        repeatable=True,
        done_when_repeated={"not_found": None},
    )


def event_of(data: str) -> dict[str, Any]:
    """What an event of a stream says. Raises FailedError."""
    return _object(Reply(200, {}, data.encode()))


def _page(reply: Reply) -> Page:
    said = _object(reply)
    items = said.pop("items", None)
    if not isinstance(items, list):
        raise _unreadable("there are no items")
    page = _value(said | {"items": []}, Page, raw=False)
    return Page(
        items=tuple(_value(item, Model, raw=True) for item in items),
        openai_base_url=page.openai_base_url,
        next_page_token=page.next_page_token,
    )


def _detail(reply: Reply) -> Detail:
    said = _object(reply)
    known = {name: said[name] for name in ("resolved_spec_yaml", "serve_status") if said.get(name) is not None}
    events = said.get("events") or []
    return Detail(
        model=_value(said.get("model"), Model, raw=True),
        events=tuple(_value(event, Event, raw=True) for event in events),
        etag=reply.headers.get("etag"),
        raw=said,
        **known,
    )


def _reads(kind: type[T], *, raw: bool = True) -> Callable[[Reply], T]:
    return lambda reply: _value(_object(reply), kind, raw=raw)


def _value(said: Any, kind: type[T], *, raw: bool) -> T:
    """One value of what was said; `raw`: it keeps that too."""
    try:
        return msgspec.convert({**said, "raw": said} if raw else said, kind)
    except (msgspec.ValidationError, TypeError) as fault:
        raise _unreadable(fault) from None


def _items(reply: Reply) -> list[Any]:
    items = _object(reply).get("items")
    if not isinstance(items, list):
        raise _unreadable("there are no items")
    return items


def _lines(reply: Reply) -> list[str]:
    lines = _object(reply).get("lines")
    if not isinstance(lines, list):
        raise _unreadable("there are no lines")
    return [str(line) for line in lines]


def _object(reply: Reply) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(reply.content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise _unreadable(fault) from None
    if not isinstance(said, dict):
        raise _unreadable("it is no JSON object")
    return said


def no_stream(kind: str) -> FailedError:
    """For a watch that was answered with something else, of that media type."""
    return _unreadable(f"it is {kind[:100]!r} in the place of a stream of events")


def _unreadable(fault: object) -> FailedError:
    return FailedError(
        f"the reply is not a serving API's: {fault}",
        code="bad_reply",
        hint="another program, or another version, may listen there",
    )


def is_json(content: bytes) -> bool:
    """Whether it is a JSON object: YAML would read some of those otherwise, or not at all."""
    if not content.lstrip().startswith(b"{"):
        return False
    try:
        msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def encoded(value: Mapping[str, Any]) -> bytes:
    """As JSON. Raises UsageError for what has none: a number that is not finite would else be sent as null."""
    try:
        return json.dumps(dict(value), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as fault:
        raise UsageError(f"it cannot be sent as JSON: {fault}", code="not_json") from None


def _planned(ask: Ask[Answer]) -> Ask[Plan]:
    """The same, asked what it would do."""
    return Ask(
        method=ask.method,
        path=ask.path,
        params={"dryRun": "true"},
        content=ask.content,
        headers=ask.headers,
        read=_reads(Plan),
        repeatable=True,
    )


def _matching(if_match: str | None) -> dict[str, str] | None:
    """Raises UsageError for what cannot stand in a header."""
    if if_match is None:
        return None
    return {"if-match": _sendable(if_match, "the ETag to match is not one that a server gave")}


def _sendable(text: str, otherwise: str) -> str:
    """A header's value. Raises UsageError with that message for what cannot be one: it would look like a connection
    that breaks, and be tried again and again."""
    if re.fullmatch("[!-~]([ -~]{0,998}[!-~])?", text) is None:
        raise UsageError(otherwise, code="bad_value")
    return text


def _part(name: str) -> str:
    """A key or an id as one part of a path. Raises UsageError for what would be another path."""
    if name in (".", "..") or re.fullmatch(r"[A-Za-z0-9._~:-]{1,200}", name) is None:
        raise UsageError(f"{name!r} is neither a model key nor an id", code="bad_value")
    return name
