"""The order of every request: who asks, whether they may, whether the model is theirs, and only then what they send.

FastAPI runs these one after the other before a route. Those that block run in its threads; the body is read outside
of them, so that a slow sender holds no thread.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from moorage.errors import NotFoundError
from moorage.serving.api.bodies import read_body
from moorage.serving.api.door import Caller
from moorage.serving.api.parts import parts_of
from moorage.serving.api.problems import Problem, not_found
from moorage.serving.model import Model
from moorage.serving.spec.names import MODEL_KEY

__all__ = [
    "Admin",
    "Declarer",
    "EndpointsReader",
    "OwnBody",
    "OwnModel",
    "UserOrAdmin",
    "admin",
    "any_caller",
    "declarer",
]


def any_caller(request: Request) -> Caller:
    """Whoever shows a good token."""
    return parts_of(request).door.enter(request.scope["headers"])


def user_or_admin(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """Not the gateway: its token reads one route."""
    if caller.role == "gateway":
        raise _forbidden("the gateway's token reads /api/v2/serve/endpoints and nothing else")
    return caller


def admin(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """An administrator."""
    if caller.role != "admin":
        raise _forbidden("this is for administrators")
    return caller


def declarer(caller: Annotated[Caller, Depends(user_or_admin)]) -> Caller:
    """A user: administrators own no models."""
    if caller.user_id is None:
        raise _forbidden("an administrator owns no models: declare it with a user's token")
    return caller


def endpoints_reader(caller: Annotated[Caller, Depends(any_caller)]) -> Caller:
    """An administrator or the gateway."""
    if caller.role == "user":
        raise _forbidden("this is for the gateway and for administrators")
    return caller


def owned_model(request: Request, caller: Annotated[Caller, Depends(user_or_admin)]) -> Model:
    """The model in the path, when it is the caller's; anything else is 404, whether it is there or not."""
    key = request.path_params["model_key"]
    nobodys = not_found("you have no model of that key")
    if MODEL_KEY.fullmatch(key) is None or caller.user_id is None:
        raise nobodys
    try:
        model = parts_of(request).store.model(key)
    except NotFoundError:
        raise nobodys from None
    if model.user_id != caller.user_id:
        raise nobodys
    return model


async def own_body(request: Request, _: Annotated[Model, Depends(owned_model)]) -> bytes:
    """Read when it is known that the model is theirs."""
    return await read_body(request)


def _forbidden(detail: str) -> Problem:
    return Problem(403, detail, code="forbidden")


UserOrAdmin = Annotated[Caller, Depends(user_or_admin)]
Admin = Annotated[Caller, Depends(admin)]
Declarer = Annotated[Caller, Depends(declarer)]
EndpointsReader = Annotated[Caller, Depends(endpoints_reader)]
OwnModel = Annotated[Model, Depends(owned_model)]
OwnBody = Annotated[bytes, Depends(own_body)]
