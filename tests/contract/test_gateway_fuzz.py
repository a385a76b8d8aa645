"""What the OpenAPI document allows and what it does not, sent at random: documented replies, never a 500.

After each the gateway still answers, and a session still records. `test_gateway_enemies.py` has what is no HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings

from tests.contract.gateway_calls import chat, init
from tests.contract.gateway_document import DOCUMENT, Moods, check_declared
from tests.contract.gateway_process import GatewayProcess, running_gateway

SCHEMA = schemathesis.openapi.from_dict(DOCUMENT).exclude(operation_id="pool_events")  # it never ends
EXPECTED_5XX = {
    *(("compute_reward", 503), ("session_render", 501)),
    *((name, status) for name in ("score_prompt", "session_score_prompt") for status in (501, 502)),
    *((f"count_tokens{place}", 501) for place in ("", "_in_session", "_in_trajectory", "_in_trajectory_v1")),
}
"""No reward function is configured; an engine may have no render route, and count or score no prompts, or wrongly."""

KEPT_ALIVE = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), replies=Moods()) as running:
        yield running


@pytest.fixture(scope="module")
def session(gateway: GatewayProcess) -> str:
    return str(gateway.post("/sessions/create").json()["uuid"])


@pytest.mark.slow
@SCHEMA.parametrize()
@KEPT_ALIVE
def test_any_request_gets_a_documented_reply(case: schemathesis.Case, gateway: GatewayProcess, session: str) -> None:
    _check(case, _send(case, gateway))
    if not case.path_parameters or case.operation.method.upper() == "DELETE":
        return
    made = init(gateway)
    known = {"uuid": session, "trajectory_uid": made["trajectory_uid"], "prompt_uid": made["prompt_uid"]}
    case.path_parameters = {name: known.get(name, value) for name, value in case.path_parameters.items()}
    _check(case, _send(case, gateway))


def test_everything_works_afterwards(gateway: GatewayProcess, session: str) -> None:
    before = len(gateway.get(f"/{session}/nodes").json()["nodes"])
    reply = gateway.post(f"/{session}/v1/completions", {"prompt": [7, 7, 7, 7, 7, 7]})
    assert reply.status_code == 200, reply.text
    assert len(gateway.get(f"/{session}/nodes").json()["nodes"]) >= max(before, 1)
    made = init(gateway)
    assert gateway.post(f"{made['path']}/v1/chat/completions", chat()).status_code == 200
    assert gateway.get("/health").json()["status"] == "ok"
    assert not [line for line in gateway.said if '"traceback"' in line]


def _send(case: schemathesis.Case, gateway: GatewayProcess) -> requests.Response:
    name = case.operation.definition.raw["operationId"]
    if name == "lease" and isinstance(case.body, dict) and isinstance(case.body.get("wait_s"), int | float):
        case.body = {**case.body, "wait_s": min(case.body["wait_s"], 0.01)}
    options: dict[str, Any] = case.as_transport_kwargs(base_url=gateway.url)
    reply = requests.request(**options, timeout=30)
    if name == "setup" and reply.status_code == 200:
        gateway.post("/setup", {"servers": [{"base_url": gateway.stub.url, "server_type": "vllm"}]})
    return reply


def _check(case: schemathesis.Case, reply: requests.Response) -> None:
    name, status = case.operation.definition.raw["operationId"], reply.status_code
    assert status < 500 or (name, status) in EXPECTED_5XX, reply.text
    if status == 400 and not reply.content:
        return  # no HTTP, says the parser
    if status in (404, 405) and str(status) not in case.operation.definition.raw["responses"]:
        return  # a made-up path parameter with a slash in it leads elsewhere
    check_declared(name, reply)
