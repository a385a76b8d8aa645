"""Users and their tokens."""

from __future__ import annotations

from typing import Any

from moorage.serving.api.openapi.models import LIMIT, PAGE_TOKEN
from moorage.serving.api.openapi.operation import json_of, operation, path_part, ref
from moorage.serving.api.routes.users import TOKENS, USERS

__all__ = ["paths"]

USER_ID = path_part("user_id", "The user.", "^[a-z][a-z0-9_-]{0,31}$")
TOKEN_ID = path_part("token_id", "The token's id, not its secret.", "^[A-Za-z0-9_-]{1,64}$")


def paths() -> dict[str, Any]:
    """For administrators alone."""
    return {
        USERS: {
            "post": _of(
                "Create a user",
                "create_user",
                {201: json_of("Created.", ref("User"))},
                faults=(409,),
                body=ref("NewUser"),
            ),
            "get": _of(
                "Every user",
                "list_users",
                {200: json_of("A page, by id.", ref("UserPage"))},
                faults=(400,),
                parameters=(LIMIT, PAGE_TOKEN),
            ),
        },
        TOKENS: {
            "post": _of(
                "A new token for a user",
                "create_token",
                {201: json_of("The only time that it is told.", ref("NewToken"))},
                faults=(404,),
                body=ref("Nothing"),
                body_required=False,
                parameters=(USER_ID,),
            ),
            "get": _of(
                "A user's tokens, without their secrets",
                "list_tokens",
                {200: json_of("Oldest first.", ref("TokenList"))},
                faults=(404,),
                parameters=(USER_ID,),
            ),
        },
        TOKENS + "/{token_id}": {
            "delete": _of(
                "Revoke a token",
                "revoke_token",
                {204: {"description": "It is good for nothing any more."}},
                faults=(404,),
                parameters=(USER_ID, TOKEN_ID),
            )
        },
    }


def _of(summary: str, name: str, replies: dict[int, dict[str, Any]], *, faults: tuple[int, ...], **more: Any) -> Any:
    return operation(summary, name=name, tag="users", replies=replies, faults=(403, *faults), **more)
