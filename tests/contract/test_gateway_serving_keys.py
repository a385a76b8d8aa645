"""Endpoints of declared models that want a key: the feed names the variable, and only the gateway knows its value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.gateway_calls import check_openai
from tests.contract.gateway_process import GatewayProcess, StubThread
from tests.contract.serving_feed import TOKEN, FeedServer, fed, following, heard

KEYED, OPEN = "alice/keyed", "alice/open"
KEY = "key-of-the-endpoint-17"
VARIABLE = "MOORAGE_TEST_ENDPOINT_KEY"
SAID = [{"role": "user", "content": "What is one and one?"}]


class Scene:
    """A gateway that has the key, an engine that demands it, and one that demands none."""

    def __init__(self, gateway: GatewayProcess, feed: FeedServer, keyed: StubThread, unlocked: StubThread) -> None:
        self.gateway, self.feed, self.keyed, self.unlocked = gateway, feed, keyed, unlocked

    def say(self, key_env: str | None, **more: Any) -> None:
        endpoint = {"base_url": self.keyed.url, "model": "alice-202601061235-keyed", "key_env": key_env}
        models = fed("keyed", self.keyed.url, endpoints=[endpoint], **more), fed("open", self.unlocked.url)
        heard(self.gateway, self.feed.say(*models))

    def chat(self, model: str) -> Any:
        return self.gateway.post("/v1/chat/completions", {"model": model, "messages": SAID})


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    keyed, unlocked = StubThread(), StubThread()
    keyed.stub.key = KEY
    feed = FeedServer(fed("open", unlocked.url))
    folder = tmp_path_factory.mktemp("keys")
    with following(folder, feed, unlocked, prefix=("env", f"{VARIABLE}={KEY}", f"MOORAGE_TEST_BAD={KEY} x")) as gateway:
        yield Scene(gateway, feed, keyed, unlocked)
    keyed.close()
    unlocked.close()


def test_the_key_is_shown_to_who_wants_it_and_to_nobody_else(scene: Scene) -> None:
    scene.say(VARIABLE)
    assert scene.chat(KEYED).status_code == scene.chat(OPEN).status_code == 200
    assert scene.keyed.requests[-1].headers["authorization"] == f"Bearer {KEY}"
    assert KEY not in str(scene.unlocked.requests[-1].headers)
    assert KEY not in scene.gateway.get("/servers").text
    assert KEY not in "".join(scene.gateway.said)


@pytest.mark.parametrize(
    ("variable", "why"),
    [
        ("MOORAGE_TEST_NOT_SET", "MOORAGE_TEST_NOT_SET, the variable of its endpoint's key, is not set"),
        ("MOORAGE_TEST_BAD", "has a value that cannot stand in a header"),
        ("MOORAGE_TEST_SERVING_TOKEN", "is not set"),  # its own token, which is nobody else's
        ("", "is not set"),
    ],
)
def test_one_whose_key_is_not_there_is_503_and_the_others_go_on(scene: Scene, variable: str, why: str) -> None:
    scene.say(variable)
    reply = scene.chat(KEYED)
    error = check_openai(reply, 503, "model_not_ready")
    assert error["condition"]["reason"] == "EndpointUnusable"
    assert why in error["message"]
    assert reply.headers["retry-after"]
    assert scene.chat(OPEN).status_code == 200
    assert scene.keyed.url not in reply.text
    assert [row["base_url"] for row in scene.gateway.get("/servers").json()["servers"]] == [scene.unlocked.url]
    said = "".join(scene.gateway.said)
    assert f"{variable} is not set" in said or "cannot stand in a header" in said
    assert KEY not in said
    assert TOKEN not in said
    scene.say(VARIABLE)  # another list, and it is asked again
    assert scene.chat(KEYED).status_code == 200


def test_an_endpoint_without_its_key_spoils_no_other_of_its_model(scene: Scene) -> None:
    model = "alice-202601061235-keyed"
    without = {"base_url": scene.keyed.url, "model": model, "key_env": "MOORAGE_TEST_NOT_SET"}
    heard(scene.gateway, scene.feed.say(fed("keyed", endpoints=[without, _open(scene, model)], ready=True)))
    assert scene.chat(KEYED).status_code == 200


def _open(scene: Scene, model: str) -> dict[str, Any]:
    return {"base_url": scene.unlocked.url, "model": model}
