"""`moor models` over a real serving API with the memory backend."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.models_process import ServingApi, applied, good, serving_api, spec
from tests.contract.terminal import Terminal


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingApi]:
    with serving_api(tmp_path_factory.mktemp("serving")) as running:
        yield running


@pytest.fixture(scope="module")
def alice(api: ServingApi) -> str:
    return api.user("alice")


# ---- apply -------------------------------------------------------------------------------------------------------


def test_apply_waits_until_it_serves(api: ServingApi, alice: str, tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text("model_id: one\nmodel_source: $HOME/common/hf/m\n")
    said = api.models("apply", "-f", str(file), "--wait", "60", token=alice)
    [model] = good(said)["models"]
    assert (model["state"], model["model_alias"], model["observed_generation"]) == ("RUNNING", "alice/one", 1)
    events = [json.loads(line) for line in said.stderr.splitlines()]
    assert events[-1]["event"] == "running"


def test_apply_again_changes_nothing(api: ServingApi, alice: str) -> None:
    first = applied(api, alice, "again")
    assert applied(api, alice, "again")["generation"] == first["generation"]
    [answer] = good(api.models("apply", "-f", "-", token=alice, stdin=spec("again")))["models"]
    assert answer == {"model_key": first["model_key"], "state": "RUNNING"}


def test_a_dry_run_tells_and_does_nothing(api: ServingApi, alice: str) -> None:
    [plan] = good(api.models("apply", "-f", "-", "--dry-run", token=alice, stdin=spec("dry")))["plan"]
    assert (plan["created"], plan["state"], plan["generation"]) == (True, "QUEUED", 1)
    assert api.models("get", "dry", token=alice).status == 3
    shown = api.run("models", "apply", "-f", "-", "--dry-run", token=alice, stdin=spec("dry"))
    assert shown.stdout.startswith("create dry\n")
    assert "  + num_replicas: 1\n" in shown.stdout


def test_a_dry_run_is_coloured_on_a_terminal_only(api: ServingApi, alice: str, tmp_path: Path) -> None:
    from moorage.cli.models.showing import plan_lines

    [plan] = good(api.models("apply", "-f", "-", "--dry-run", token=alice, stdin=spec("dry")))["plan"]
    assert '\x1b[32m  + model_id: "dry"\x1b[0m' in plan_lines(plan, colour=True)
    assert "\x1b" not in "".join(plan_lines(plan, colour=False))


def test_several_documents(api: ServingApi, alice: str) -> None:
    two = "---\n" + spec("two-a") + "\n--- # the other\n" + spec("two-b") + "\n"
    data = good(api.models("apply", "-f", "-", "--wait", "60", token=alice, stdin=two))
    assert [model["model_alias"] for model in data["models"]] == ["alice/two-a", "alice/two-b"]


def test_a_fault_in_one_of_several_documents_declares_none(api: ServingApi, alice: str, tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        "model_id: none-a\nmodel_source: $HOME/common/hf/m\nnum_replicas: two\n"
        "---\nmodel_id: none-b\nmodel_source: $HOME/common/hf/m\nengine_kwargs:\n  bogus: 1\nspare: 1\n"
    )
    said = api.models("apply", "-f", str(file), token=alice)
    assert said.status == 2
    assert [(one["file"], one["line"], one["pointer"]) for one in said.data["faults"]] == [
        (str(file), 3, "/num_replicas"),
        (str(file), 9, "/spare"),
        (str(file), 8, "/engine_kwargs/bogus"),
    ]
    for name in ("none-a", "none-b"):
        assert api.models("get", name, token=alice).status == 3
    shown = api.run("models", "apply", "-f", str(file), token=alice)
    assert f"{file}:8 /engine_kwargs/bogus: " in shown.stderr


def test_a_file_declares_a_model_once(api: ServingApi, alice: str) -> None:
    twice = "---\n" + spec("twice") + "\n---\n" + spec("twice-not") + "\n---\n" + spec("twice") + "\n"
    for words in ((), ("--dry-run",)):
        said = api.models("apply", "-f", "-", *words, token=alice, stdin=twice)
        assert (said.status, said.error["code"]) == (2, "model_repeated")
        [fault] = said.data["faults"]
        assert (fault["file"], fault["line"], fault["pointer"]) == ("<stdin>", 6, "/model_id")
    assert api.models("get", "twice", token=alice).status == 3


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("model_id: [\n", "invalid_yaml"),
        ("", None),
        ("a: &x 1\nb: *x\n", None),
        ("!!python/object:os.system {}\n", None),
        (b"\xff\xfe\x00", None),
        ("- 1\n", None),
        ("x: " + "a" * 300_000, "body_too_large"),
        ('{"model_id": "a", "model_id": "b"}', None),
    ],
)
def test_what_is_no_spec(api: ServingApi, alice: str, content: str | bytes, code: str | None) -> None:
    said = api.models("apply", "-f", "-", token=alice, stdin=content)
    assert said.status == 2, said
    assert code in (None, said.error["code"]) or code == "invalid_yaml"
    assert said.data["faults"][0]["file"] == "<stdin>"


def test_a_huge_file_is_not_sent(api: ServingApi, alice: str, tmp_path: Path) -> None:
    file = tmp_path / "huge.yaml"
    with file.open("wb") as out:
        out.truncate(10 << 20)
    said = api.models("apply", "-f", str(file), token=alice)
    assert (said.status, said.error["code"]) == (2, "spec_too_large")
    assert api.models("apply", "-f", str(tmp_path), token=alice).error["code"] == "spec_unreadable"
    assert api.models("apply", "-f", "a\tb\n", token=alice).status == 2


def test_somebody_elses_path(api: ServingApi, alice: str) -> None:
    said = api.models("apply", "-f", "-", token=alice, stdin=spec("x", model_source=f"{api.root}/users/bob/m"))
    assert (said.status, said.error["code"]) == (5, "model_source_forbidden")
    assert "token" not in said.error["hint"]


def test_a_failure_is_told_with_its_reason(api: ServingApi, alice: str) -> None:
    said = api.models("apply", "-f", "-", "--wait", "100", token=alice, stdin=spec("memfail-x"))
    assert (said.status, said.error["code"]) == (8, "model_failed")
    model = said.data["model"]
    assert model["error_summary"] in said.error["message"]
    assert said.error["next"][0] == f"moor models logs {model['model_key']}"
    listed = api.run("models", "list", "--state", "failed", token=alice).stdout
    assert "alice/memfail-x  FAILED" in listed
    assert model["error_summary"] in listed


def test_not_in_time(api: ServingApi, alice: str) -> None:
    said = api.models("apply", "-f", "-", "--wait", "0", token=alice, stdin=spec("late"))
    assert (said.status, said.error["code"]) == (7, "not_settled")
    assert said.data["model"]["model_alias"] == "alice/late"


def test_create_only(api: ServingApi, alice: str) -> None:
    applied(api, alice, "only")
    said = api.models("apply", "-f", "-", "--create-only", token=alice, stdin=spec("only"))
    assert (said.status, said.error["code"]) == (6, "model_exists")


# ---- scale, rollback, delete -------------------------------------------------------------------------------------


def test_scale(api: ServingApi, alice: str) -> None:
    before = applied(api, alice, "scale")
    [plan] = good(api.models("scale", "scale", "--replicas", "2", "--dry-run", token=alice))["plan"]
    assert [step["action"] for step in plan["plan"]] == ["scale"]
    after = good(api.models("scale", "alice/scale", "--replicas", "2", "--wait", "60", token=alice))
    assert (after["num_replicas"], after["generation"], after["model_key"]) == (2, 2, before["model_key"])
    bounds = ("--min-replicas", "1", "--max-replicas", "3")
    after = good(api.models("scale", "scale", *bounds, "--wait", "60", token=alice))
    assert after["autoscaling"] == {"min_replicas": 1, "max_replicas": 3}
    after = good(api.models("scale", "scale", "--no-autoscaling", "--wait", "60", token=alice))
    assert after["autoscaling"] is None
    for words in (("--replicas", "0"), ("--replicas", "-3"), ("--min-replicas", "5", "--max-replicas", "2")):
        assert api.models("scale", "scale", *words, token=alice).status == 2


def test_a_stale_etag(api: ServingApi, alice: str) -> None:
    applied(api, alice, "etag")
    etag = good(api.models("get", "etag", token=alice))["etag"]
    good(api.models("scale", "etag", "--replicas", "2", "--if-match", etag, token=alice))
    said = api.models("scale", "etag", "--replicas", "3", "--if-match", etag, token=alice)
    assert (said.status, said.error["code"]) == (6, "stale")
    assert api.models("delete", "etag", "--if-match", etag, token=alice).status == 6
    for no_etag in ("", "\u20ac", '"1"\r\nx: y'):
        said = api.models("scale", "etag", "--replicas", "3", "--if-match", no_etag, token=alice)
        assert (said.status, said.error["code"]) == (2, "bad_value")
    assert good(api.models("get", "etag", token=alice))["model"]["num_replicas"] == 2


def test_rollback(api: ServingApi, alice: str) -> None:
    applied(api, alice, "back", engine_kwargs={"max_model_len": 64})
    applied(api, alice, "back", engine_kwargs={"max_model_len": 128})
    [plan] = good(api.models("rollback", "back", "--generation", "1", "--dry-run", token=alice))["plan"]
    assert plan["changed"]
    after = good(api.models("rollback", "back", "--generation", "1", "--wait", "60", token=alice))
    assert (after["generation"], after["engine_kwargs"]) == (3, {"max_model_len": 64})
    shown = good(api.models("get", "back", "--revisions", token=alice))
    assert [one["generation"] for one in shown["revisions"]] == [1, 2, 3]
    assert api.models("rollback", "back", "--generation", "9", token=alice).status == 3
    assert api.models("rollback", "back", token=alice).error["code"] == "nothing_to_roll_back_to"


def test_delete(api: ServingApi, alice: str) -> None:
    key = applied(api, alice, "gone")["model_key"]
    assert good(api.models("delete", "gone", "--wait", "60", token=alice))["state"] == "DELETED"
    assert api.models("get", "gone", token=alice).status == 3
    assert good(api.models("get", key, token=alice))["model"]["state"] == "DELETED"
    assert good(api.models("delete", key, token=alice))["state"] == "DELETED"
    assert applied(api, alice, "gone")["model_key"] != key


# ---- names -------------------------------------------------------------------------------------------------------


def test_every_name_of_a_model(api: ServingApi, alice: str) -> None:
    model = applied(api, alice, "named")
    for name in ("named", "alice/named", model["model_id"], model["model_key"]):
        assert good(api.models("get", name, token=alice))["model"]["model_key"] == model["model_key"]
    said = api.models("get", "namde", token=alice)
    assert (said.status, said.error["code"], said.error["hint"]) == (3, "model_not_found", "did you mean named?")


def test_a_name_that_fits_two(api: ServingApi, alice: str) -> None:
    dated = applied(api, alice, "twice")["model_id"]
    applied(api, alice, dated)
    said = api.models("delete", dated, token=alice)
    assert (said.status, said.error["code"]) == (4, "model_ambiguous")
    assert {one["model_alias"] for one in said.data["candidates"]} == {"alice/twice", f"alice/{dated}"}
    for one in said.data["candidates"]:
        good(api.models("delete", one["model_key"], "--wait", "60", token=alice))


def test_other_users_models_are_not_there(api: ServingApi, alice: str) -> None:
    key = applied(api, alice, "mine")["model_key"]
    bob = api.user("bob")
    assert good(api.models("list", token=bob))["models"] == []
    for name in ("mine", "alice/mine", key):
        assert api.models("get", name, token=bob).status == 3
        assert api.models("delete", name, token=bob).status == 3


# ---- list, get, logs ---------------------------------------------------------------------------------------------


def test_list_and_get_for_people(api: ServingApi, alice: str) -> None:
    applied(api, alice, "shown")
    listed = api.run("models", "list", token=alice).stdout
    assert listed.splitlines()[0].split()[:3] == ["MODEL", "STATE", "REPLICAS"]
    assert "alice/shown" in listed
    told = api.run("models", "get", "shown", "--revisions", token=alice).stdout
    for word in ("alice/shown  RUNNING", "conditions", "Ready", "events", "DEPLOY_REQUESTED", "revisions", "/hf/m"):
        assert word in told
    few = good(api.models("list", "--limit", "1", token=alice))
    assert (len(few["models"]), few["more"]) == (1, True)


def test_logs(api: ServingApi, alice: str) -> None:
    applied(api, alice, "logs")
    lines = good(api.models("logs", "logs", "--tail", "5", token=alice))["lines"]
    assert lines
    assert api.run("models", "logs", "logs", token=alice).stdout.splitlines()[-1] == lines[-1]
    assert api.models("logs", "logs", "--generation", "7", token=alice).status == 3


def test_following_logs_ends_with_the_model(api: ServingApi, alice: str) -> None:
    applied(api, alice, "follow")
    with subprocess.Popen(
        api.command("models", "logs", "follow", "--follow", "--json"),
        env=api.env(alice),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert "line" in json.loads(process.stdout.readline())
        good(api.models("delete", "follow", "--wait", "60", token=alice))
        last = process.stdout.read().splitlines()[-1]
    assert json.loads(last)["ok"]


# ---- who may, and where ------------------------------------------------------------------------------------------


def test_without_a_token(api: ServingApi) -> None:
    said = api.models("list", token=None)
    assert (said.status, said.error["code"]) == (5, "not_authenticated")
    assert "--token-env" in said.error["hint"]


def test_a_variable_that_is_not_set(api: ServingApi, alice: str) -> None:
    said = api.models("list", "--token-env", "NO_SUCH", token=alice)
    assert (said.status, said.error["code"]) == (5, "key_missing")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://127.0.0.1:1"])
def test_nobody_answers(api: ServingApi, alice: str, url: str) -> None:
    said = api.models("list", "--api", url, token=alice)
    assert (said.status, said.error["code"]) == (9, "no_connection")
    assert url in said.error["message"]


@pytest.mark.parametrize("url", ["", "x", "ftp://h", "http://u:p@h", "http://h:99999", "http://h?x=1"])
def test_what_is_no_address(api: ServingApi, alice: str, url: str) -> None:
    said = api.models("list", f"--api={url or ' '}", token=alice)
    assert (said.status, said.error["code"]) == (2, "bad_value")


# ---- users and tokens --------------------------------------------------------------------------------------------


def test_users_and_tokens(api: ServingApi, tmp_path: Path) -> None:
    made = good(api.run("serve", "user", "create", "dora", "--json", token=None))
    assert made["user_id"] == "dora"
    assert api.run("serve", "user", "create", "dora", "--json", token=None).error["code"] == "user_exists"
    assert api.run("serve", "user", "create", "D!", "--json", token=None).status == 2
    assert "dora" in [one["user_id"] for one in good(api.run("serve", "user", "list", "--json", token=None))["users"]]
    file = tmp_path / "token"
    told = good(api.run("serve", "token", "create", "dora", "--output", str(file), "--json", token=None))
    assert "token" not in told
    assert file.stat().st_mode & 0o777 == 0o600
    assert good(api.models("list", token=file.read_text().strip()))["models"] == []
    again = api.run("serve", "token", "create", "dora", "--output", str(file), "--json", token=None)
    assert (again.status, again.error["code"]) == (6, "output_exists")
    assert len(good(api.run("serve", "token", "list", "dora", "--json", token=None))["tokens"]) == 1
    assert api.run("serve", "token", "create", "nobody", "--json", token=None).status == 3
    shown = good(api.run("serve", "token", "create", "dora", "--json", token=None))
    assert good(api.models("list", token=shown["token"]))["models"] == []


def test_a_users_token_administers_nothing(api: ServingApi, alice: str) -> None:
    said = api.run("serve", "user", "list", "--token-env", "MOORAGE_SERVING_TOKEN", "--json", token=alice)
    assert (said.status, said.error["code"]) == (5, "forbidden")


# ---- on a terminal -----------------------------------------------------------------------------------------------


def test_progress_moves_on_a_terminal(api: ServingApi, alice: str, tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_text(spec("terminal"))
    with Terminal(["models", "apply", "-f", str(file), "--wait", "60"], api.env(alice)) as terminal:
        status, out = terminal.finish()
        assert status == 0, terminal.shown
        assert out.startswith("alice/terminal  RUNNING")
        assert "alice/terminal" in terminal.shown
