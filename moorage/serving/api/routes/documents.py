"""The API's own documentation, with nothing from another host. Anybody may read it."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from moorage.serving.api.openapi import document
from moorage.serving.api.problems import Problem
from moorage.serving.api.replies import json_reply
from moorage.swagger import pages

__all__ = ["add_routes"]


def add_routes(app: FastAPI) -> None:
    app.add_api_route("/docs", docs, methods=["GET"])
    app.add_api_route("/docs/{file}", docs_file, methods=["GET"])
    app.add_api_route("/openapi.json", openapi, methods=["GET"])


def docs() -> Response:
    """The page."""
    return Response(pages.page("Moorage serving", "openapi.json"), media_type="text/html; charset=utf-8")


def docs_file(request: Request) -> Response:
    """What the page loads."""
    found = pages.file(request.path_params["file"])
    if found is None:
        raise Problem(404, "there is no such file", code="no_such_path")
    content, media_type = found
    return Response(content, media_type=media_type)


def openapi() -> Response:
    """OpenAPI 3.0: Swagger UI 4, whose files are served here, knows no newer one."""
    return json_reply(document.document())
