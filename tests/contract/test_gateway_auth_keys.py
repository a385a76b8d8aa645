"""`moor gateway keys`: made, shown once, listed, revoked; in files, with wrong words, while gateways run."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import ROOT, Moor
from tests.contract.gateway_calls import chat, check_problem
from tests.contract.gateway_keys import Keys, shown
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.real.parts.postgres import Postgres

KEY = re.compile(r"moor_(admin|trainer)_[0-9a-f]{12}_[0-9a-f]{56}")


@pytest.fixture
def db(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'gateway.db'}"


def test_a_key_is_shown_once_and_found_in_the_list_without_its_secret(moor: Moor, db: str) -> None:
    words = ("gateway", "keys", "create", "--role", "trainer", "--note", "job 7", "--expires", "30d", "--db", db)
    made = moor(*words, "--json").out["data"]
    assert KEY.fullmatch(made["key"])
    assert made["key"].split("_")[2] == made["key_id"]
    assert (made["role"], made["note"], made["state"], made["revoked_at"]) == ("trainer", "job 7", "good", None)
    answer = moor("gateway", "keys", "list", "--db", db, "--json")
    assert answer.out["data"]["keys"] == [{name: made[name] for name in made if name != "key"}]
    secret = made["key"].rpartition("_")[2]
    assert secret not in answer.err + str(answer.out)
    for people in (moor("gateway", "keys", "list", "--db", db), moor("gateway", "keys", "--help")):
        assert secret not in str(people.out) + people.err


def test_for_people_stdout_is_the_key_alone(moor: Moor, db: str) -> None:
    """So that KEY=$(moor gateway keys create …) is all that is needed."""
    answer = moor("gateway", "keys", "create", "--role", "admin", "--db", db)
    assert KEY.fullmatch(str(answer.out).strip())
    assert "shown this once" in answer.err
    assert str(answer.out).strip() not in answer.err


def test_a_key_goes_into_a_file_of_its_own(moor: Moor, db: str, tmp_path: Path) -> None:
    path = tmp_path / "key"
    words = ("gateway", "keys", "create", "--role", "admin", "--output", path, "--db", db, "--json")
    old = os.umask(0)
    try:
        answer = moor(*words)
    finally:
        os.umask(old)
    assert answer.out["data"]["output_file"] == str(path)
    assert "key" not in answer.out["data"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KEY.fullmatch(path.read_text().strip())
    again = moor(*words)
    assert (again.rc, again.out["error"]["code"]) == (6, "output_exists")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    led = moor("gateway", "keys", "create", "--role", "admin", "--output", tmp_path / "link", "--db", db, "--json")
    assert led.rc == 6
    assert not (tmp_path / "elsewhere").exists()
    assert len(moor("gateway", "keys", "list", "--db", db, "--json").out["data"]["keys"]) == 1


def test_a_file_that_cannot_be_written_leaves_no_key(moor: Moor, db: str, tmp_path: Path) -> None:
    answer = moor(
        "gateway", "keys", "create", "--role", "admin", "--output", tmp_path / "no" / "key", "--db", db, "--json"
    )
    assert (answer.rc, answer.out["error"]["code"]) == (5, "output_unwritable")
    assert not (tmp_path / "gateway.db").exists()


def test_a_store_that_cannot_be_used_leaves_no_file(moor: Moor, tmp_path: Path) -> None:
    (tmp_path / "junk.db").write_bytes(b"no database" * 500)
    words = ("gateway", "keys", "create", "--role", "admin", "--output", tmp_path / "key")
    answer = moor(*words, "--db", f"sqlite:///{tmp_path / 'junk.db'}", "--json")
    assert answer.rc == 5
    assert not (tmp_path / "key").exists()


def test_revoking_is_told_and_can_be_repeated(moor: Moor, db: str) -> None:
    key_id = moor("gateway", "keys", "create", "--role", "admin", "--db", db, "--json").out["data"]["key_id"]
    answer = moor("gateway", "keys", "revoke", key_id, "--db", db, "--json")
    assert answer.out["data"]["state"] == "revoked"
    assert "no admin key is left" in answer.err
    again = moor("gateway", "keys", "revoke", key_id, "--db", db, "--json")
    assert again.out["data"]["revoked_at"] == answer.out["data"]["revoked_at"]


def test_a_whole_key_that_was_found_can_be_revoked(moor: Moor, db: str) -> None:
    made = moor("gateway", "keys", "create", "--role", "trainer", "--db", db, "--json").out["data"]
    assert moor("gateway", "keys", "revoke", made["key"], "--db", db, "--json").out["data"]["key_id"] == made["key_id"]
    other = made["key"].replace(made["key_id"], "0" * 12)
    wrong = moor("gateway", "keys", "revoke", other, "--db", db, "--json")
    assert wrong.rc == 3
    assert made["key"].rpartition("_")[2] not in str(wrong.out) + wrong.err


@pytest.mark.parametrize(
    ("words", "rc"),
    [
        ([], 2),
        (["destroy"], 2),
        (["create"], 2),
        (["create", "--role", "boss"], 2),
        (["create", "--role", "session"], 2),
        (["create", "0123456789ab", "--role", "admin"], 2),
        (["create", "--role", "admin", "--expires", "0"], 2),
        (["create", "--role", "admin", "--expires", "soon"], 2),
        (["create", "--role", "admin", "--note", "x" * 201], 2),
        (["create", "--role", "admin", "--note", "a\nb"], 2),
        (["create", "--role", "admin", "--note", "moor_admin_x"], 2),
        (["list", "--role", "admin"], 2),
        (["list", "0123456789ab"], 2),
        (["list"], 3),
        (["revoke"], 2),
        (["revoke", "0123456789ab"], 3),
        (["revoke", "x"], 2),
        (["revoke", "0123456789ab", "--output", "x"], 2),
        (["create", "--role", "admin", "--db", "mysql://x"], 2),
        (["create", "--role", "admin", "--db", "sqlite:////proc/nowhere/x.db"], 5),
    ],
    ids=str,
)
def test_wrong_words(moor: Moor, db: str, tmp_path: Path, words: list[str], rc: int) -> None:
    where = () if "--db" in words else ("--db", db)
    answer = moor("gateway", "keys", *words, *where, "--json")
    assert answer.rc == rc, answer
    assert answer.out["ok"] is False
    assert not (tmp_path / "gateway.db").exists()


def test_keys_is_a_word_of_its_own_only_right_after_gateway(moor: Moor) -> None:
    assert moor("gateway", "--json", "keys", "list").rc == 2
    assert moor("keys", "list", "--json").rc == 2
    assert "--upstream" in str(moor("gateway", "--help").out)


def test_the_default_store_is_that_of_the_gateway_on_the_port(moor: Moor, tmp_path: Path) -> None:
    env = {"XDG_DATA_HOME": str(tmp_path)}
    assert moor("gateway", "keys", "create", "--role", "admin", "--port", "8123", env=env).rc == 0
    assert (tmp_path / "moorage" / "gateway-8123.db").exists()
    assert len(moor("gateway", "keys", "list", "--port", "8123", "--json", env=env).out["data"]["keys"]) == 1
    assert moor("gateway", "keys", "list", "--json", env=env).rc == 3


def test_many_at_once_each_get_a_key_of_their_own(moor: Moor, db: str) -> None:
    with ThreadPoolExecutor(6) as threads:
        words = ("gateway", "keys", "create", "--role", "trainer", "--db", db, "--json")
        made = list(threads.map(lambda _: moor(*words).out["data"]["key_id"], range(6)))
    listed = moor("gateway", "keys", "list", "--db", db, "--json").out["data"]["keys"]
    assert {one["key_id"] for one in listed} == set(made)
    assert len(set(made)) == 6


def test_looking_for_verbs_imports_none_of_it() -> None:
    code = "import sys; from moorage.cli.main import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "moorage.cli.verbs.gateway_keys" not in done.stdout
    assert "msgspec" not in done.stdout


# While gateways run ------------------------------------------------------------------------------------------------


def test_two_gateways_over_one_store_take_and_refuse_the_same_keys(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with running_gateway(tmp_path, "--auth", "keys") as one:
        other = GatewayProcess(one.stub, one.db, "--auth", "keys")
        try:
            key, key_id = keys.make("trainer")
            made = one.post("/init_trajectory", {}, **shown(key)).json()
            path = f"/{made['trajectory_uid']}/{made['prompt_uid']}/v1/chat/completions"
            for gateway in (other, one, other):
                assert gateway.get("/pool/stats", **shown(key)).status_code == 200
                assert gateway.post(path, chat(), **shown(made["api_key"])).status_code == 200
            keys.keeper.revoke(key_id)
            for gateway in (one, other):
                wait_until(
                    lambda gateway=gateway: gateway.get("/pool/stats", **shown(key)).status_code == 401, within_s=20
                )  # type: ignore[misc]
                check_problem(gateway.get("/pool/stats", **shown(key)), 401, "key_revoked")
                assert gateway.post(path, chat(), **shown(made["api_key"])).status_code == 200
        finally:
            other.kill()


@pytest.mark.postgres
def test_the_same_over_postgresql(moor: Moor, postgres: Postgres, tmp_path: Path) -> None:
    """Made and revoked by the command; when the database dies, keys are refused after a while, and good again after."""
    db = postgres.url(postgres.new_schema())
    refused = moor("gateway", "--auth", "keys", "--port", "0", "--upstream", "http://127.0.0.1:1", "--db", db, "--json")
    assert (refused.rc, refused.out["error"]["code"]) == (5, "keys_required")
    assert postgres.password not in str(refused.out) + refused.err
    admin = moor("gateway", "keys", "create", "--role", "admin", "--db", db, "--json").out["data"]["key"]
    with running_gateway(tmp_path, "--auth", "keys", "--db", db) as gateway:
        made = moor("gateway", "keys", "create", "--role", "trainer", "--db", db, "--json").out["data"]
        assert gateway.get("/pool/stats", **shown(made["key"])).status_code == 200
        own = gateway.post("/sessions/create", {}, **shown(made["key"])).json()
        path = f"/{own['uuid']}/v1/chat/completions"
        assert gateway.post(path, chat(), **shown(own["api_key"])).status_code == 200
        moor("gateway", "keys", "revoke", made["key_id"], "--db", db)
        wait_until(lambda: gateway.get("/pool/stats", **shown(made["key"])).status_code == 401, within_s=20)
        postgres.kill()
        try:
            wait_until(lambda: gateway.get("/v1/models", **shown(admin)).status_code == 503, within_s=30)
            assert gateway.get("/health").json() == {"status": "ok"}
        finally:
            postgres.start()
        wait_until(lambda: gateway.get("/v1/models", **shown(admin)).status_code == 200, within_s=30)


def test_every_worker_refuses_a_revoked_key(tmp_path: Path) -> None:
    keys = Keys(tmp_path)
    with running_gateway(tmp_path, "--auth", "keys", "--workers", "2") as gateway:
        key, key_id = keys.make("trainer")

        def statuses() -> set[int]:
            """Of connections of their own, so that both workers are asked."""
            found = set()
            for _ in range(12):
                gateway.http.close()
                found.add(gateway.get("/pool/stats", **shown(key)).status_code)
            return found

        assert statuses() == {200}
        keys.keeper.revoke(key_id)
        wait_until(lambda: statuses() == {401}, within_s=20)
