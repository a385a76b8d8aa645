"""Users and their tokens, for administrators."""

from __future__ import annotations

import re
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response

from moorage.serving.api.access import Admin
from moorage.serving.api.bodies import document_of, read_body
from moorage.serving.api.parts import parts_of
from moorage.serving.api.problems import Problem, not_found
from moorage.serving.api.queries import Asked
from moorage.serving.api.replies import json_reply, no_content
from moorage.serving.api.views import rfc3339
from moorage.serving.spec.names import USER_ID_RULE, valid_user_id
from moorage.serving.store.contract import Token

__all__ = ["TOKENS", "USERS", "add_routes"]

USERS = "/api/v2/users"
TOKENS = USERS + "/{user_id}/tokens"


def add_routes(app: FastAPI) -> None:
    app.add_api_route(USERS, create_user, methods=["POST"])
    app.add_api_route(USERS, list_users, methods=["GET"])
    app.add_api_route(TOKENS, create_token, methods=["POST"])
    app.add_api_route(TOKENS, list_tokens, methods=["GET"])
    app.add_api_route(TOKENS + "/{token_id}", revoke_token, methods=["DELETE"])


async def admins_body(request: Request, _: Admin) -> bytes:
    """Read when it is known who sends it."""
    return await read_body(request)


def known_user(request: Request, _: Admin) -> str:
    """The user in the path."""
    user_id: str = request.path_params["user_id"]
    if not valid_user_id(user_id) or not parts_of(request).store.has_user(user_id):
        raise not_found("there is no such user")
    return user_id


AdminsBody = Annotated[bytes, Depends(admins_body)]
KnownUser = Annotated[str, Depends(known_user)]


def create_user(request: Request, content: AdminsBody) -> Response:
    """Somebody who may be given tokens."""
    document = document_of(request, content)
    faults = [_fault(f"/{_escaped(name)}", "unknown field", "unknown_field") for name in document if name != "user_id"]
    user_id = document.get("user_id")
    if "user_id" not in document:
        faults.append(_fault("/user_id", "missing", "missing_field"))
    elif not isinstance(user_id, str):
        faults.append(_fault("/user_id", "not a text", "wrong_type"))
    elif not valid_user_id(user_id):
        faults.append(_fault("/user_id", USER_ID_RULE, "invalid_user_id"))
    if faults or not isinstance(user_id, str):
        raise _bad_user(faults)
    parts = parts_of(request)
    now = parts.now()
    parts.store.create_user(user_id, now)
    return json_reply({"user_id": user_id, "created_at": rfc3339(now)}, 201, {"Location": f"{USERS}/{user_id}/tokens"})


def list_users(request: Request, _: Admin) -> Response:
    """By id, a page at a time."""
    asked = Asked(request)
    limit, token = asked.limit(), asked.page_token()
    if token is not None and not valid_user_id(token):
        raise Problem(400, "page_token is not one that was given out", code="bad_page_token")
    found = parts_of(request).store.users(limit + 1, token or "")
    more = found[limit - 1].user_id if len(found) > limit else None
    items = [{"user_id": one.user_id, "created_at": rfc3339(one.created_at)} for one in found[:limit]]
    return json_reply({"items": items, "next_page_token": more})


def create_token(request: Request, user_id: KnownUser, content: AdminsBody) -> Response:
    """The only time that the token is told."""
    document = document_of(request, content, may_be_empty=True)
    if document:
        raise _bad_user([_fault(f"/{_escaped(name)}", "unknown field", "unknown_field") for name in document])
    parts = parts_of(request)
    token, secret = parts.store.create_token(user_id, parts.now())
    return json_reply({"user_id": user_id, **_token_view(token), "token": secret}, 201)


def list_tokens(request: Request, user_id: KnownUser) -> Response:
    """Without their secrets, oldest first; revoked ones not."""
    return json_reply({"items": [_token_view(one) for one in parts_of(request).store.tokens(user_id)]})


def revoke_token(request: Request, user_id: KnownUser) -> Response:
    """From now on it is good for nothing."""
    token_id: str = request.path_params["token_id"]
    if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", token_id) is None:
        raise not_found("the user has no such token")
    parts = parts_of(request)
    parts.store.revoke_token(user_id, token_id)
    parts.changes.wake()
    return no_content()


def _token_view(token: Token) -> dict[str, Any]:
    return {"token_id": token.token_id, "created_at": rfc3339(token.created_at)}


def _bad_user(faults: list[dict[str, str]]) -> Problem:
    first = f"{faults[0]['pointer']}: {faults[0]['detail']}"
    return Problem(400, first, code=faults[0]["code"], errors=faults[:1000])


def _fault(pointer: str, detail: str, code: str) -> dict[str, str]:
    return {"pointer": pointer, "detail": detail, "code": code}


def _escaped(name: str) -> str:
    return str(name).replace("~", "~0").replace("/", "~1")
