"""The OpenAPI document of the serving API is valid, and it is what is routed."""

from __future__ import annotations

import re

import schemathesis
from fastapi import FastAPI

from moorage.serving.api.openapi.document import document
from moorage.serving.api.routes import documents, history, models, operations, users
from moorage.serving.reasons import Reason
from moorage.swagger import pages


def test_it_is_openapi() -> None:
    schemathesis.openapi.from_dict(document()).validate()


def test_it_has_every_route_and_no_other() -> None:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    for subject in (models, history, users, operations, documents):
        subject.add_routes(app)
    routed = {(method, route.path) for route in app.routes for method in getattr(route, "methods", ())}
    told = {(method.upper(), path) for path, item in document()["paths"].items() for method in item}
    assert told == routed


def test_every_name_is_there_once() -> None:
    names = [operation["operationId"] for item in document()["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))


def test_every_reason_says_what_to_do() -> None:
    told = document()["components"]["schemas"]["Condition"]["properties"]["reason"]
    assert told["enum"] == [one.value for one in Reason]
    assert all(f"{one}: " in told["description"] for one in Reason)


def test_the_pages_load_nothing_from_elsewhere() -> None:
    page = pages.page("Moorage serving", "openapi.json").decode()
    names = re.findall(r'(?:src|href)="docs/([^"]+)"', page)
    assert names
    assert all(pages.file(name) is not None for name in names)
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")
    assert pages.file("../page.html") is None
