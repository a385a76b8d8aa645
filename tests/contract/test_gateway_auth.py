"""A gateway that asks for keys, as its users meet it: roles, sessions' own keys, clients, revocation, pages."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.conftest import Moor
from tests.contract.gateway_calls import SAID, chat, check_openai, check_problem, step
from tests.contract.gateway_keys import Keys, shown
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until


class Guarded:
    """A gateway with keys, and what is needed to use it."""

    def __init__(self, gateway: GatewayProcess, keys: Keys) -> None:
        self.gateway = gateway
        self.keys = keys

    def session(self) -> tuple[str, str]:
        """(path, own key) of a new session."""
        made = self.gateway.post("/sessions/create", {}, **shown(self.keys.trainer)).json()
        self.keys.given.append(made["api_key"])
        return f"/{made['uuid']}", made["api_key"]

    def trajectory(self) -> tuple[str, str]:
        """(path, own key) of a new trajectory."""
        made = self.gateway.post("/init_trajectory", {}, **shown(self.keys.trainer)).json()
        self.keys.given.append(made["api_key"])
        return f"/{made['trajectory_uid']}/{made['prompt_uid']}", made["api_key"]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    keys = Keys(folder)
    with running_gateway(folder, "--auth", "keys", "--access-log") as gateway:
        yield Guarded(gateway, keys)
        said = "".join(gateway.said)
        stored = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    for key in keys.given:
        secret = key.rpartition("_")[2]
        assert secret not in said, "a key is in what the gateway said"
        assert secret.encode() not in stored, "a key is in the store's files"


# Roles -------------------------------------------------------------------------------------------------------------


def test_without_a_key_there_are_the_open_routes_alone(guarded: Guarded) -> None:
    gateway = guarded.gateway
    assert gateway.get("/health").json() == {"status": "ok"}
    assert gateway.get("/ready").status_code == 200
    assert gateway.get("/docs").status_code == 200
    assert gateway.get("/openapi.json").status_code == 200
    for path in ("/pool/stats", "/metrics"):
        reply = gateway.get(path)
        check_problem(reply, 401, "key_missing")
        assert reply.headers["www-authenticate"] == 'Bearer realm="moorage"'
    for path in ("/sessions", "/servers", "/v1/models"):
        check_openai(gateway.get(path), 401, "key_missing")
    check_openai(gateway.post("/v1/chat/completions", chat()), 401, "key_missing")
    check_problem(gateway.post("/submit_steps", {"steps": [step("a")]}), 401, "key_missing")
    check_openai(gateway.post("/setup", {}), 401, "key_missing")


def test_who_is_trusted_sees_the_details_of_health(guarded: Guarded) -> None:
    assert guarded.gateway.get("/health", **shown(guarded.keys.trainer)).json()["servers"] == 1
    assert guarded.gateway.get("/health", **shown("nonsense")).json() == {"status": "ok"}


def test_a_trainer_trains_and_does_not_run_the_gateway(guarded: Guarded) -> None:
    gateway, trainer = guarded.gateway, shown(guarded.keys.trainer)
    assert (
        gateway.post("/submit_steps", {"steps": [step("t1", is_last=True, reward=1.0)]}, **trainer).status_code == 200
    )
    assert gateway.post("/pool/lease", {}, **trainer).json()["leases"]
    assert gateway.post("/v1/chat/completions", chat(), **trainer).status_code == 200
    assert gateway.get("/sessions", **trainer).status_code == 200
    check_problem(gateway.get("/metrics", **trainer), 403, "forbidden")
    check_openai(gateway.post("/setup", {}, **trainer), 403, "forbidden")


def test_an_admin_does_everything(guarded: Guarded) -> None:
    gateway, admin = guarded.gateway, shown(guarded.keys.admin)
    told = gateway.get("/metrics", **admin)
    assert told.status_code == 200
    assert not any(key in told.text for key in guarded.keys.given)
    assert gateway.post("/setup", {"servers": "none"}, **admin).status_code in (400, 422)
    assert gateway.get("/pool/stats", **admin).status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "both", "lower"])
def test_a_key_is_shown_as_openai_or_as_anthropic_do(guarded: Guarded, header: str) -> None:
    key = guarded.keys.trainer
    headers = {
        "authorization": {"Authorization": f"Bearer {key}"},
        "x-api-key": {"X-Api-Key": key},
        "both": {"Authorization": f"Bearer {key}", "x-api-key": key},
        "lower": {"authorization": f"bearer {key}"},
    }[header]
    assert guarded.gateway.get("/pool/stats", headers=headers).status_code == 200


# A session's own key -----------------------------------------------------------------------------------------------


def test_an_agent_works_with_its_own_key_alone(guarded: Guarded) -> None:
    gateway = guarded.gateway
    path, key = guarded.trajectory()
    own = shown(key)
    assert gateway.post(f"{path}/v1/register_trajectory", {"metadata": {"a": 1}}, **own).status_code == 200
    assert gateway.post(f"{path}/v1/chat/completions", chat(), **own).status_code == 200
    assert gateway.post(f"{path}/completions", {"prompt": "a"}, **own).status_code == 200
    assert gateway.get(f"{path}/v1/models", **own).status_code == 200
    check_problem(gateway.post(f"{path}/v1/complete_trajectory", {"reward": 1.0}, **own), 403, "forbidden")
    assert gateway.post(f"{path}/v1/complete_trajectory", {}, **own).status_code == 200
    uid = path.split("/")[1]
    check_problem(gateway.post(f"/complete_trajectory/{uid}", {"reward": 9}, **own), 403, "forbidden")
    check_openai(gateway.post(f"{path}/v1/chat/completions", chat(), **own), 409, "trajectory_complete")
    steps = gateway.get(f"/pool/steps?trajectory_uid={uid}", **shown(guarded.keys.trainer)).json()["steps"]
    assert [(one["step_index"], one["reward"], one["is_last"]) for one in steps] == [(0, None, False), (1, None, True)]


def test_a_session_of_atropos_is_worked_in_the_same_way(guarded: Guarded) -> None:
    gateway = guarded.gateway
    path, key = guarded.session()
    own = shown(key)
    assert gateway.post(f"{path}/v1/chat/completions", chat(), **own).status_code == 200
    check_openai(gateway.get(f"{path}/nodes", **own), 403, "forbidden")
    check_openai(gateway.post(f"{path}/v1/chat/completions/render", chat(), **own), 403, "forbidden")
    assert len(gateway.get(f"{path}/nodes", **shown(guarded.keys.trainer)).json()["nodes"]) == 1


def test_a_sessions_key_ends_with_its_session(guarded: Guarded) -> None:
    gateway = guarded.gateway
    path, key = guarded.session()
    gateway.http.delete(gateway.url + path, timeout=60, **shown(guarded.keys.trainer)).raise_for_status()
    check_openai(gateway.post(f"{path}/v1/chat/completions", chat(), **shown(key)), 404)


def test_a_retry_of_another_who_may_is_the_same_call(guarded: Guarded) -> None:
    """A trainer and the agent of a session are two keys of one session."""
    gateway = guarded.gateway
    path, key = guarded.session()
    first = gateway.post(f"{path}/v1/chat/completions", chat(), **shown(key, **{"idempotency-key": "1"}))
    again = gateway.post(
        f"{path}/v1/chat/completions", chat(), **shown(guarded.keys.trainer, **{"idempotency-key": "1"})
    )
    assert first.json() == again.json()


def test_the_openai_sdk_with_a_sessions_key(guarded: Guarded) -> None:
    made = guarded.gateway.post("/init_trajectory", {}, **shown(guarded.keys.trainer)).json()
    guarded.keys.given.append(made["api_key"])
    client = OpenAI(base_url=made["openai_base_url"], api_key=made["api_key"], max_retries=0)
    messages: Any = SAID
    assert client.chat.completions.create(model="default", messages=messages).choices[0].message.content
    frames = list(client.chat.completions.create(model="default", messages=messages, stream=True))
    assert frames[-1].choices[0].finish_reason
    assert [model.id for model in client.models.list()]
    other = OpenAI(base_url=made["openai_base_url"], api_key=made["api_key"][:-1] + "x", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as wrong:
        other.models.list()
    assert "mistyped" in wrong.value.message
    elsewhere = OpenAI(base_url=f"{guarded.gateway.url}/v1", api_key=made["api_key"], max_retries=0)
    with pytest.raises(openai.PermissionDeniedError):
        elsewhere.models.list()


def test_engines_never_see_a_clients_key(guarded: Guarded) -> None:
    gateway = guarded.gateway
    path, key = guarded.session()
    gateway.post(f"{path}/v1/chat/completions", chat(), **shown(key))
    gateway.post("/v1/chat/completions", chat(), headers={"x-api-key": guarded.keys.trainer})
    for seen in gateway.stub.requests:
        assert not any(given in repr(vars(seen)) for given in guarded.keys.given)


def test_a_session_is_asked_for_its_key_also_after_a_restart(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with running_gateway(tmp_path, "--auth", "keys") as gateway:
        path, key = Guarded(gateway, keys).session()
        gateway.post(f"{path}/v1/chat/completions", chat(), **shown(key)).raise_for_status()
    with running_gateway(tmp_path, "--auth", "keys") as gateway:
        others = key[:-20] + ("0" * 20)
        check_openai(gateway.post(f"{path}/v1/chat/completions", chat(), **shown(others)), 401, "key_wrong")
        assert gateway.post(f"{path}/v1/chat/completions", chat(), **shown(key)).status_code == 200


# Made, revoked, run out --------------------------------------------------------------------------------------------


def test_a_new_key_is_good_at_once_and_a_revoked_one_refused_within_a_second(guarded: Guarded) -> None:
    gateway = guarded.gateway
    key, key_id = guarded.keys.make("trainer")
    assert gateway.get("/pool/stats", **shown(key)).status_code == 200
    guarded.keys.keeper.revoke(key_id)
    wait_until(lambda: gateway.get("/pool/stats", **shown(key)).status_code == 401, within_s=10)
    check_problem(gateway.get("/pool/stats", **shown(key)), 401, "key_revoked")


def test_a_key_that_ran_out_is_refused(guarded: Guarded) -> None:
    key, _ = guarded.keys.make("trainer", lifetime_s=0.001)
    check_problem(guarded.gateway.get("/pool/stats", **shown(key)), 401, "key_expired")


def test_many_wrong_keys_are_slowed_while_right_ones_pass(guarded: Guarded) -> None:
    """Last but one in this file's gateway: the address has failed often then."""
    gateway = guarded.gateway
    wrong = guarded.keys.trainer[:-1] + "x"
    with ThreadPoolExecutor(8) as threads:
        codes = list(threads.map(lambda _: gateway.get("/pool/stats", **shown(wrong)).status_code, range(60)))
    assert set(codes) == {401, 429}
    refused = gateway.get("/pool/stats", **shown(wrong))
    check_problem(refused, 429, "too_many_failures")
    assert int(refused.headers["retry-after"]) >= 1
    assert gateway.get("/pool/stats", **shown(guarded.keys.trainer)).status_code == 200
    path, key = guarded.session()
    assert gateway.post(f"{path}/v1/chat/completions", chat(), **shown(key)).status_code == 200


# Where it starts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "flags", [("--host", "0.0.0.0"), ("--host", "::"), ("--auth", "keys"), ("--host", "gate.example")]
)
@pytest.mark.parametrize("there", [False, True], ids=["no store", "a store without an admin key"])
def test_without_an_admin_key_it_does_not_start(
    moor: Moor, tmp_path: Path, flags: tuple[str, ...], there: bool
) -> None:
    db = f"sqlite:///{tmp_path / 'store.db'}"
    if there:
        assert moor("gateway", "keys", "create", "--role", "trainer", "--db", db).rc == 0
    answer = moor("gateway", *flags, "--port", "0", "--upstream", "http://127.0.0.1:1", "--db", db, "--json")
    if flags[-1] == "gate.example" and there:
        assert answer.rc in (5, 6)  # it is no address of this machine
        return
    assert (answer.rc, answer.out["error"]["code"]) == (5, "keys_required")
    assert answer.out["error"]["next"] == [f"moor gateway keys create --role admin --db {db}"]
    assert (tmp_path / "store.db").exists() == there


def test_on_another_address_keys_are_asked_for(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with running_gateway(tmp_path, "--host", "0.0.0.0") as gateway:
        check_problem(gateway.get("/pool/stats"), 401, "key_missing")
        assert gateway.get("/pool/stats", **shown(keys.trainer)).status_code == 200
        for name, value in (("host", "localhost"), ("x-forwarded-for", "127.0.0.1"), ("forwarded", "for=127.0.0.1")):
            check_problem(gateway.get("/pool/stats", headers={name: value}), 401, "key_missing")


def test_none_on_another_address_is_warned_of(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--host", "0.0.0.0", "--auth", "none") as gateway:
        assert gateway.get("/pool/stats").status_code == 200
        assert any("open_to_everybody" in line and "--auth none" in line for line in gateway.said)


def test_loopback_by_name_is_loopback(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--host", "localhost") as gateway:
        assert gateway.get("/pool/stats").status_code == 200
        assert "api_key" not in gateway.post("/init_trajectory").json()


# Pages of others ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("local")) as gateway:
        yield gateway


def test_a_page_elsewhere_changes_nothing(local: GatewayProcess) -> None:
    for origin in (
        "http://evil.example",
        "null",
        f"http://localhost:{local.port + 1}",
        f"http://evil.example:{local.port}",
    ):
        headers = {"origin": origin, "content-type": "text/plain"}
        check_problem(local.post("/init_trajectory", b"{}", headers=headers), 403, "page_foreign")
        check_openai(local.post("/sessions/create", b"{}", headers=headers), 403, "page_foreign")
        check_openai(local.post("/setup", b"{}", headers=headers), 403, "page_foreign")
    assert local.get("/sessions").json() == {"sessions": []}


def test_a_name_that_was_led_here_reads_nothing(local: GatewayProcess) -> None:
    browser = {"host": f"evil.example:{local.port}", "accept-language": "en", "user-agent": "Mozilla/5.0"}
    check_problem(local.get("/pool/steps", headers=browser), 403, "page_foreign")
    check_openai(local.get("/sessions", headers=browser), 403, "page_foreign")
    rebound = {**browser, "origin": f"http://evil.example:{local.port}"}
    check_problem(local.post("/pool/lease", {}, headers=rebound), 403, "page_foreign")
    assert local.get("/health", headers=browser).json() == {"status": "ok"}


def test_our_own_pages_and_programs_are_served(local: GatewayProcess) -> None:
    own = {"origin": local.url, "accept-language": "en", "referer": f"{local.url}/docs"}
    assert local.post("/init_trajectory", {}, headers=own).status_code == 200
    assert local.get("/pool/stats", headers=own).status_code == 200
    assert local.get("/pool/stats", headers={"host": "gate.example"}).status_code == 200
    made = local.post("/init_trajectory", {}, headers={"host": "gate.example:99"}).json()
    assert made["base_url"].startswith("http://gate.example:99/")


def test_with_keys_an_origin_does_not_matter(guarded: Guarded) -> None:
    headers = {"authorization": f"Bearer {guarded.keys.trainer}", "origin": "https://console.example"}
    assert guarded.gateway.post("/init_trajectory", {}, headers=headers).status_code == 200
