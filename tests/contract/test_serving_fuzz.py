"""What the OpenAPI document of the serving API allows and what it does not, sent at random: documented replies, never
a 500. Afterwards everything still works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings

from tests.contract.serving_document import DOCUMENT, check_declared
from tests.contract.serving_process import MODELS, Caller, ServingProcess, running_api

SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OF_ADMINS = {"create_user", "list_users", "create_token", "list_tokens", "revoke_token", "serve_status", "endpoints"}
ELSEWHERE = ("no_such_path", "method_not_allowed", "not_authenticated")
FEW = settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


class Stand(NamedTuple):
    api: ServingProcess
    alice: Caller
    key: str
    http: requests.Session
    """Which sends what it is given: no token of its own."""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    with running_api(tmp_path_factory.mktemp("serving")) as api, requests.Session() as http:
        alice = api.user("alice")
        yield Stand(api, alice, alice.declare("fuzzed"), http)


@pytest.mark.slow
@SCHEMA.parametrize()
@FEW
def test_any_request_gets_a_documented_reply(case: schemathesis.Case, stand: Stand) -> None:
    name = case.operation.definition.raw["operationId"]
    token = stand.api.admin_token if name in OF_ADMINS else stand.alice.token
    _check(case, _send(case, stand, None))
    _check(case, _send(case, stand, token))
    if case.path_parameters and name != "delete_model":
        known = {"model_key": stand.key, "user_id": "alice", "token_id": "none"}
        case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}
        _check(case, _send(case, stand, token))


def test_everything_works_afterwards(stand: Stand) -> None:
    assert stand.api.nobody.get("/health").json()["status"] == "ok"
    stand.alice.settled(stand.alice.declare("afterwards"), "RUNNING")
    assert stand.alice.get(MODELS).status_code == 200


def _send(case: schemathesis.Case, stand: Stand, token: str | None) -> requests.Response:
    options: dict[str, Any] = case.as_transport_kwargs(base_url=stand.api.url)
    options["headers"] = {**options.get("headers", {})}
    if token is not None:
        options["headers"]["Authorization"] = f"Bearer {token}"
    else:
        options["headers"].pop("Authorization", None)
    reply = stand.http.request(**options, timeout=60, stream=True)
    if reply.headers.get("content-type", "").startswith("text/event-stream"):
        reply.close()  # it never ends
        reply._content = b""
    return reply


def _check(case: schemathesis.Case, reply: requests.Response) -> None:
    name, status = case.operation.definition.raw["operationId"], reply.status_code
    assert status < 500, reply.text
    if status == 400 and reply.json()["code"] == "bad_http":
        return  # a header that is none
    if status in (401, 404, 405) and reply.json()["code"] in ELSEWHERE:
        return  # a made-up part of the path with a slash in it leads elsewhere
    check_declared(name, reply)
