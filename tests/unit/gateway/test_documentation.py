"""The OpenAPI document against the routes that there are, and its pages: nothing of them comes from another host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import schemathesis

from moorage.gateway import documentation
from moorage.gateway.http.faults import Fault
from moorage.gateway.http.paths import FIXED, SESSION, TRAJECTORY, find_route

DOCUMENT = documentation.document()
EXAMPLES = {
    "uuid": "0b5ff0fa-13f1-4b08-a83b-b2d6bbb5ec1b",
    "trajectory_uid": "t1",
    "prompt_uid": "p1",
    "file": "x.js",
    "model": "m",
}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def routes() -> Iterator[tuple[str, str]]:
    """Every route that paths.py knows, as the document writes it."""
    yield from ((method, path) for path, methods in FIXED.items() for method in methods)
    yield from ((method, f"/{{uuid}}/{rest}".rstrip("/")) for rest, methods in SESSION.items() for method in methods)
    for rest, methods in TRAJECTORY.items():
        for version in ("", "v1/"):
            yield from ((method, f"/{{trajectory_uid}}/{{prompt_uid}}/{version}{rest}") for method in methods)
    yield "GET", "/docs/{file}"
    yield "GET", "/v1/models/{model}"
    yield "POST", "/complete_trajectory/{trajectory_uid}"


def test_every_route_is_in_the_document_and_no_other() -> None:
    assert sorted((method, path) for method, path, _ in operations()) == sorted(routes())


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in operations()])
def test_a_documented_path_has_a_handler(method: str, path: str) -> None:
    route, _ = find_route(method, path.format(**EXAMPLES))
    operation = DOCUMENT["paths"][path][method.lower()]
    declared = {content for reply in operation["responses"].values() for content in reply.get("content", {})}
    if "application/problem+json" in declared:
        assert route.shape == "problem"
    with pytest.raises(Fault) as caught:
        find_route("PATCH", path.format(**EXAMPLES))
    assert caught.value.status == 405


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


def test_every_parameter_of_a_path_is_described() -> None:
    for _, path, operation in operations():
        described = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
        assert described == set(re.findall(r"\{(\w+)\}", path)), path


@pytest.mark.parametrize("document", [DOCUMENT, documentation.as_openapi_3_0(DOCUMENT)], ids=["3.1", "3.0"])
def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = document["components"]["schemas"]
    named = set(re.findall(r"'#/components/schemas/(\w+)'", str(document)))
    assert named
    assert named <= set(known)
    assert set(known) - named <= {"Server"}, "a schema that nothing uses"


@pytest.mark.parametrize("document", [DOCUMENT, documentation.as_openapi_3_0(DOCUMENT)], ids=["3.1", "3.0"])
def test_it_is_an_openapi_document(document: dict[str, Any]) -> None:
    schemathesis.openapi.from_dict(document).validate()


def test_schemas_are_json_schemas() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_the_older_document_says_null_as_3_0_does() -> None:
    told = documentation.as_openapi_3_0(DOCUMENT)
    assert told["openapi"] == "3.0.3"
    assert "'type': 'null'" not in str(told)
    assert "'const'" not in str(told)
    created = told["components"]["schemas"]["CreateBody"]["properties"]
    assert created["mode"] == {"enum": ["exact", "passthrough"], "nullable": True, "default": None}
    lease_s = told["components"]["schemas"]["LeaseBody"]["properties"]["lease_s"]
    assert (lease_s["minimum"], lease_s["exclusiveMinimum"]) == (0, True)


def test_nothing_of_the_page_comes_from_another_host() -> None:
    page = documentation.page().decode()
    addresses = re.findall(r"""(?:src|href)="([^"]+)""", page)
    assert "default-src 'self'" in page
    for address in addresses:
        assert address.startswith("docs/")
        assert documentation.file(address.removeprefix("docs/")), address
    initializer = documentation.file("initializer.js")
    assert initializer is not None
    assert b"://" not in initializer[0]
    assert b"validatorUrl: null" in initializer[0]


@pytest.mark.parametrize("name", ["", "..", "../documentation.py", "index.html", "page.html", "swagger-ui.js.map"])
def test_no_other_file_is_given(name: str) -> None:
    assert documentation.file(name) is None
