"""The serving API as an ASGI application: its routes, and what happens where there is none."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import ASGIApp, Receive, Scope, Send

from moorage.errors import MoorageError
from moorage.serving.api.access import any_caller
from moorage.serving.api.parts import Parts, parts_of
from moorage.serving.api.problems import Problem, problem_of, reply_of
from moorage.serving.api.queries import HEAD
from moorage.serving.api.routes import documents, history, models, operations, users

__all__ = ["create_app"]

CLOSED = "/api/"
"""Under it nothing is told to whom nobody knows, not even what there is."""


def create_app(parts: Parts) -> FastAPI:
    """The application; the caller starts and closes what is in `parts`."""
    app = FastAPI(title="Moorage serving", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.parts = parts
    for subject in (models, history, users, operations, documents):
        subject.add_routes(app)
    app.add_exception_handler(Problem, _tell)
    app.add_exception_handler(MoorageError, _tell)
    app.add_exception_handler(HTTPException, _no_route)
    app.add_exception_handler(Exception, _tell)
    app.add_middleware(HeadAsGet)
    return app


class HeadAsGet:
    """HEAD goes the way of GET; the server sends no body then."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", HEAD: True}
        await self._app(scope, receive, send)


def _tell(request: Request, fault: Exception) -> Response:
    problem = problem_of(fault)
    if problem.status >= 500 and problem is not fault:  # else it is a refusal of ours, and nothing went wrong
        parts_of(request).log.fault(fault, method=request.method, path=request.url.path)
    return reply_of(problem)


def _no_route(request: Request, fault: Exception) -> Response:
    """404 and 405, after it is known who asks."""
    assert isinstance(fault, HTTPException)
    try:
        if request.url.path.startswith(CLOSED):
            any_caller(request)
    except (Problem, MoorageError) as refused:
        return _tell(request, refused)
    if fault.status_code == 405:
        allowed = ", ".join(_allowed(request))
        detail = f"{request.method} is not for this path"
        return reply_of(Problem(405, detail, code="method_not_allowed", headers={"Allow": allowed}))
    if fault.status_code == 404:
        return reply_of(Problem(404, "there is no such path", code="no_such_path"))
    return reply_of(Problem(fault.status_code, str(fault.detail), code="refused"))


def _allowed(request: Request) -> list[str]:
    methods: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= set(getattr(route, "methods", None) or ())
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))
