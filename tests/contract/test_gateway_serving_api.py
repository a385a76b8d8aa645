"""A gateway that follows a real serving API: from a posted spec to an answer, and back to none."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.contract.gateway_calls import check_openai
from tests.contract.gateway_process import GatewayProcess, StubThread, wait_until
from tests.contract.serving_process import GATEWAY_ENV, MODELS, ServingProcess
from tests.contract.serving_with_endpoint import ENDPOINT_ENV
from tests.stand_ins.canned_replies import CannedReplies
from tests.stand_ins.stub_reply import StubReply

CHAT = "/v1/chat/completions"
SAID = [{"role": "user", "content": "hi"}]
CONFIG = """
auth: required
serving:
  quotas:
    requests_per_minute: 300
"""


class Echo(CannedReplies):
    """Says the model that it was asked for."""

    def __call__(self, path: str, body: bytes) -> StubReply:
        reply = super().__call__(path, body)
        asked = json.loads(body)["model"]
        return StubReply(200, json.dumps({**json.loads(reply.body), "model": asked}).encode())


class Plane:
    """An API, a gateway, and one engine that answers for every model."""

    def __init__(self, api: ServingProcess, gateway: GatewayProcess, engine: StubThread) -> None:
        self.api, self.gateway, self.engine = api, gateway, engine

    def chat(self, model: str, token: str) -> tuple[int, str]:
        """(status, what the engine was asked for, or the code)."""
        headers = {"authorization": f"Bearer {token}"}
        reply = self.gateway.post(CHAT, {"model": model, "messages": SAID}, headers=headers)
        said = reply.json()
        return reply.status_code, said["model"] if reply.status_code == 200 else said["error"]["code"]


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    folder = tmp_path_factory.mktemp("plane")
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    engine = StubThread(Echo("stub", prompt_ids=4, sampled=3))
    api = ServingProcess(
        folder,
        "--config",
        str(config),
        module="tests.contract.serving_with_endpoint",
        environ={ENDPOINT_ENV: engine.url},
    )
    prefix = ("env", f"{GATEWAY_ENV}={api.gateway_token}")
    whom = ("--serving", api.url, "--serving-token-env", GATEWAY_ENV)
    gateway = GatewayProcess(engine, folder / "gateway.db", whom=whom, prefix=prefix)
    yield Plane(api, gateway, engine)
    gateway.kill()
    api.kill()
    engine.close()


def test_from_a_spec_to_an_answer_and_back(plane: Plane) -> None:
    alice = plane.api.user("alice")
    token = str(alice.token)
    wait_until(lambda: plane.chat("alice/m", token)[0] == 404)
    key = alice.declare("m")
    seen = set()

    def answers() -> bool:
        seen.add(plane.chat("alice/m", token))
        return 200 in {status for status, _ in seen}

    wait_until(answers)
    model = alice.detail(key)["model"]
    assert seen <= {(404, "model_not_found"), (503, "model_not_ready"), (200, model["model_id"])}
    assert plane.chat(model["model_id"], token) == (200, model["model_id"])
    headers = {"authorization": f"Bearer {token}"}
    listed = [row["id"] for row in plane.gateway.get("/v1/models", headers=headers).json()["data"]]
    assert listed == [model["model_id"], "alice/m"]
    assert alice.delete(f"{MODELS}/{key}").status_code == 200
    wait_until(lambda: plane.chat("alice/m", token)[0] != 200)
    wait_until(lambda: plane.chat("alice/m", token) == (404, "model_not_found"))


def test_a_token_is_good_and_revoked_within_a_second(plane: Plane) -> None:
    bob = plane.api.user("bob")
    headers = {"authorization": f"Bearer {bob.token}"}
    made = time.monotonic()
    while plane.gateway.get("/v1/models", headers=headers).status_code != 200:
        assert time.monotonic() - made < 1
    [kept] = plane.api.admin.get("/api/v2/users/bob/tokens").json()["items"]
    assert plane.api.admin.delete(f"/api/v2/users/bob/tokens/{kept['token_id']}").status_code == 204
    revoked = time.monotonic()
    while plane.gateway.get("/v1/models", headers=headers).status_code == 200:
        assert time.monotonic() - revoked < 1


def test_a_users_quota_of_the_configuration(plane: Plane) -> None:
    carol = plane.api.user("carol")
    wait_until(lambda: plane.chat("x/y", str(carol.token))[0] == 404)
    codes = [plane.chat("x/y", str(carol.token))[1] for _ in range(310)]
    assert codes[-1] == "rate_limit_exceeded"
    assert codes.count("model_not_found") <= 300


def test_it_goes_on_when_the_api_is_killed(plane: Plane) -> None:
    dora = plane.api.user("dora")
    dora.declare("m", lora=[])
    token = str(dora.token)
    wait_until(lambda: plane.chat("dora/m", token)[0] == 200)
    plane.api.kill()
    headers = {"authorization": f"Bearer {token}"}
    wait_until(lambda: plane.gateway.get("/health").json()["status"] == "degraded")
    assert plane.chat("dora/m", token)[0] == 200
    check_openai(plane.gateway.post(CHAT, {"model": "dora/n"}, headers=headers), 404, "model_not_found")
