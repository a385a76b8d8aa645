"""`moor pool`: over HTTP and on the store itself, files that are whole or not there, and gateways that go away."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.contract.gateway_calls import fresh
from tests.contract.gateway_channel import Channel
from tests.contract.gateway_process import ROOT, GatewayProcess, StubThread, running_gateway, wait_until
from tests.contract.test_gateway_pool_retention import fill


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        channel = Channel(running, "train")
        for number in range(6):
            channel.rollout(f"p{number}", steps=3, policy_version=number % 2, rollout_log_probs=[-0.5, -0.25], reward=1)
        channel.rollout("still", complete=False)
        channel.ack(*channel.lease(max_groups=2))
        Channel(running, "val").rollout("v")
        yield running


@pytest.fixture(params=["url", "db"])
def where(request: pytest.FixtureRequest, gateway: GatewayProcess) -> list[str]:
    """Both ways to the same pool."""
    return ["--url", gateway.url] if request.param == "url" else ["--db", f"sqlite:///{gateway.db}"]


class Done:
    def __init__(self, words: Sequence[str], **environ: str) -> None:
        found = subprocess.run(command(words), env=env(**environ), capture_output=True, text=True, timeout=120)
        self.status, self.stderr = found.returncode, found.stderr
        *self.lines, last = found.stdout.splitlines()
        self.data: dict[str, Any] = json.loads(last).get("data", {})
        self.error: dict[str, Any] = json.loads(last).get("error", {})
        assert "Traceback" not in self.stderr


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "moorage.cli.main", "pool", *words, "--json"]


def env(**environ: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **environ}


def pool(*words: str, **environ: str) -> Done:
    return Done(words, **environ)


def good(*words: str) -> dict[str, Any]:
    done = pool(*words)
    assert done.status == 0, (done.error, done.stderr)
    return done.data


def test_stats(where: list[str], gateway: GatewayProcess) -> None:
    channels = good("stats", *where)["channels"]
    assert channels == gateway.get("/pool/stats").json()["channels"]
    assert set(channels) == {"train", "val"}
    assert good("stats", *where, "--channel", "val")["channels"] == {"val": channels["val"]}
    assert good("stats", *where, "--n-rollouts", "2")["channels"]["train"]["groups"]["ready"] == 0


def test_stats_as_people_read_them(gateway: GatewayProcess) -> None:
    words = [*command(["stats", "--url", gateway.url])][:-1]
    said = subprocess.run(words, env=env(), capture_output=True, text=True, check=True, timeout=60).stdout
    assert [line.split()[0] for line in said.splitlines()] == ["channel", "train", "val"]


def test_tail_from_the_beginning(where: list[str]) -> None:
    done = pool("tail", *where, "--from", "0", "--limit", "12", "--channel", "train")
    assert done.status == 0
    events = [json.loads(line)["event"] for line in done.lines]
    assert [one["type"] for one in events[:4]] == ["step", "step", "step", "complete"]
    assert [one["id"] for one in events] == sorted({one["id"] for one in events})
    assert done.data == {"events": 12, "cursor": events[-1]["id"]}
    assert all(one["at"].endswith("Z") and one["channel"] == "train" for one in events)


def test_tail_shows_what_comes_and_ctrl_c_ends_it(where: list[str], gateway: GatewayProcess) -> None:
    name = fresh()
    process = subprocess.Popen(
        command(["tail", *where, "--channel", name]), env=env(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        uid = ""

        def shown() -> str:
            """Until it listens, what happens is not for it."""
            nonlocal uid
            uid = Channel(gateway, name).rollout("a")
            return line.pop() if line else ""

        line: list[str] = []
        reader = threading.Thread(target=lambda: line.append(process.stdout.readline()))  # type: ignore[union-attr]
        reader.start()
        wait_until(lambda: bool(shown()) or not reader.is_alive())
        reader.join(30)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
        assert process.returncode == 130
        assert json.loads(rest.splitlines()[-1])["error"]["code"] == "interrupted"
    finally:
        process.kill()
        process.wait()


def test_tail_misses_nothing_while_the_gateway_is_away(tmp_path: Path) -> None:
    stub = StubThread()
    first = GatewayProcess(stub, tmp_path / "gateway.db")
    process = subprocess.Popen(
        command(["tail", "--url", first.url, "--from", "0", "--limit", "6"]),
        env=env(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    second = None
    try:
        one = Channel(first, "train").rollout("a")
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        port = first.port
        first.kill()
        assert process.stderr is not None
        assert "asking again" in process.stderr.readline()
        second = GatewayProcess(stub, tmp_path / "gateway.db", "--port", str(port))
        uids = [Channel(second, "train").rollout(name) for name in "bc"]
        rest, _ = process.communicate(timeout=60)
        events = [json.loads(line)["event"] for line in [*lines, *rest.splitlines()[:-1]]]
        assert [(each["type"], each["trajectory_uid"]) for each in events] == [
            (kind, uid) for uid in (one, *uids) for kind in ("step", "complete")
        ]
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
        first.kill()
        if second is not None:
            second.kill()
        stub.close()


def test_an_export_is_what_the_pool_holds(where: list[str], gateway: GatewayProcess, tmp_path: Path) -> None:
    lines, table = tmp_path / "steps.jsonl", tmp_path / "steps.parquet"
    expected = gateway.get("/pool/steps?limit=1000&channel=train").json()["steps"]
    assert good("export", *where, "--format", "jsonl", "--output", str(lines), "--channel", "train")["steps"] == 19
    assert [json.loads(line) for line in lines.read_text().splitlines()] == expected
    data = good("export", *where, "--format", "parquet", "--output", str(table), "--channel", "train")
    assert (data["output"], data["bytes"], data["steps"]) == (str(table), table.stat().st_size, 19)
    found = pq.read_table(table)
    assert found["prompt_ids"].to_pylist() == [one["prompt_ids"] for one in expected]
    assert found["rollout_log_probs"].to_pylist() == [one["rollout_log_probs"] for one in expected]
    assert found.schema.metadata == {b"moorage.schema": b"pool.steps", b"moorage.schema_version": b"1"}
    assert [path.stat().st_mode & 0o777 for path in (lines, table)] == [0o600, 0o600]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["steps.jsonl", "steps.parquet"]


def test_both_ways_write_the_same_bytes(gateway: GatewayProcess, tmp_path: Path) -> None:
    for kind in ("jsonl", "parquet"):
        found = []
        for number, where in enumerate((["--url", gateway.url], ["--db", f"sqlite:///{gateway.db}"])):
            path = tmp_path / f"{number}.{kind}"
            good("export", *where, "--format", kind, "--output", str(path), "--channel", "train")
            found.append(path.read_bytes())
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        (["--policy-version", "1"], 9),
        (["--prompt", "p3"], 3),
        (["--state", "open"], 1),
        (["--state", "complete", "--channel", "val"], 1),
        (["--channel", "nobody"], 0),
    ],
)
def test_what_an_export_chooses(where: list[str], tmp_path: Path, flags: list[str], steps: int) -> None:
    path = tmp_path / "steps.parquet"
    assert good("export", *where, "--format", "parquet", "--output", str(path), *flags)["steps"] == steps
    assert pq.read_table(path).num_rows == steps


def test_a_file_that_is_there_is_written_over_only_when_told(where: list[str], tmp_path: Path) -> None:
    path = tmp_path / "steps.jsonl"
    path.write_text("mine")
    words = ("export", *where, "--format", "jsonl", "--output", str(path), "--channel", "val")
    done = pool(*words)
    assert (done.status, done.error["code"]) == (6, "output_exists")
    assert path.read_text() == "mine"
    assert good(*words, "--force")["steps"] == 1
    assert len(path.read_text().splitlines()) == 1
    done = pool("export", *where, "--format", "jsonl", "--output", str(tmp_path / "no" / "steps"))
    assert (done.status, done.error["code"]) == (8, "output_not_written")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["steps.jsonl"]


def test_an_export_of_a_gateway_that_is_killed_goes_on_when_it_is_back(tmp_path: Path) -> None:
    """Its second page is asked of a gateway that was killed in between."""
    fill(tmp_path / "gateway.db", 300, settle=False)
    stub = StubThread()
    first = GatewayProcess(stub, tmp_path / "gateway.db")
    with relay(first) as (url, tell):
        words = command(["export", "--url", url, "--format", "jsonl", "--output", str(tmp_path / "steps.jsonl")])
        process = subprocess.Popen(words, env=env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        second = None
        try:
            assert process.stderr is not None
            assert any("asking again" in line for line in iter(process.stderr.readline, ""))
            assert not (tmp_path / "steps.jsonl").exists()
            second = GatewayProcess(stub, tmp_path / "gateway.db")
            tell(second)
            said, _ = process.communicate(timeout=60)
            assert json.loads(said)["data"]["steps"] == 1800
            rows = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
            assert len({(row["trajectory_uid"], row["step_index"]) for row in rows}) == 1800
        finally:
            process.kill()
            process.wait()
            first.kill()
            if second is not None:
                second.kill()
            stub.close()


@contextlib.contextmanager
def relay(gateway: GatewayProcess) -> Iterator[tuple[str, Any]]:
    """An address that leads to a gateway, kills it after one page, and then to the next one that it is told of."""
    target: list[GatewayProcess | None] = [gateway]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            whom = target[0]
            if whom is None:
                self.send_error(503)
                return
            reply = whom.get(self.path)
            if whom is gateway:
                target[0] = None
                gateway.kill()
            self.send_response(reply.status_code)
            self.send_header("content-type", reply.headers["content-type"])
            self.send_header("content-length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            self.close_connection = True  # as a gateway that is not there

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", lambda other: target.__setitem__(0, other)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def test_marks(where: list[str], gateway: GatewayProcess) -> None:
    uid = Channel(gateway, fresh()).rollout("a")
    words = ("mark", *where, "--trajectory", uid, "--step", "0")
    assert good(*words, "--set", "trainable=false", "--set", "note=not so good", "--set", "q=0.5")["marks"] == {
        "trainable": False,
        "note": "not so good",
        "q": 0.5,
    }
    assert good(*words, "--unset", "note", "--set", "nan=NaN")["marks"] == {"trainable": False, "q": 0.5, "nan": "NaN"}
    assert pool(*words, "--set", "a b=1").error["code"] == "bad_marks"
    assert (pool("mark", *where, "--trajectory", "nobody", "--step", "0", "--set", "a=1").status) == 3
    assert (pool("mark", *where, "--trajectory", uid, "--step", "9", "--set", "a=1").error["code"]) == "unknown_step"


@pytest.mark.parametrize("direct", [False, True], ids=["url", "db"])
def test_retain(tmp_path: Path, direct: bool) -> None:
    fill(tmp_path / "gateway.db", 5)
    with running_gateway(tmp_path) as gateway:
        Channel(gateway, "train").rollout("young")
        where = ["--db", f"sqlite:///{gateway.db}"] if direct else ["--url", gateway.url]
        plan = good("retain", *where, "--older-than", "20d", "--dry-run")
        assert plan["plan"]["trajectories"] == 10
        assert good("retain", *where, "--older-than", "60d", "--dry-run")["plan"]["trajectories"] == 0
        assert (
            good("retain", *where, "--older-than", "20d", "--keep", "acked", "--dry-run")["plan"]["trajectories"] == 0
        )
        done = good("retain", *where, "--older-than", "20d")
        assert done["retained"] == plan["plan"]
        assert done["content_bytes"] == plan["content_bytes"] - plan["plan"]["bytes"]
        assert len(gateway.get("/pool/trajectories").json()["trajectories"]) == 1
        # The gateway knows nothing of what went, whoever let it go.
        assert gateway.post("/complete_trajectory/old-0-0").status_code == 404


def test_a_dry_run_on_a_store_writes_nothing(tmp_path: Path) -> None:
    fill(tmp_path / "gateway.db", 3)
    before = (tmp_path / "gateway.db").read_bytes()
    where = ["--db", f"sqlite:///{tmp_path / 'gateway.db'}"]
    assert good("retain", *where, "--max-bytes", "0", "--dry-run")["plan"]["trajectories"] == 4
    assert good("stats", *where)["channels"]["train"]["steps"] == 18
    assert (tmp_path / "gateway.db").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["look"], 2, "bad_value"),
        (["stats", "--url", "ftp://x"], 2, "bad_value"),
        (["stats", "--url", "http://u:p@127.0.0.1"], 2, "bad_value"),
        (["stats", "--url", "http://127.0.0.1:1"], 9, "no_connection"),
        (["tail", "--url", "http://127.0.0.1:1"], 9, "no_connection"),
        (["stats", "--url", "http://127.0.0.1", "--db", "sqlite:///x"], 2, "usage"),
        (["stats", "--db", "mysql:///x"], 2, "bad_value"),
        (["stats", "--db", "sqlite:////nowhere/x.db"], 3, None),
        (["mark", "--db", "sqlite:////nowhere/x.db", "--trajectory", "t", "--step", "0", "--set", "a=1"], 3, None),
        (["stats", "--key-env", "MOORAGE_NO_SUCH_KEY"], 5, "api_key_missing"),
        (["stats", "--output", "x"], 2, "usage"),
        (["export", "--format", "csv", "--output", "x"], 2, "bad_value"),
        (["export", "--format", "jsonl"], 2, "usage"),
        (["export", "--format", "jsonl", "--output", "x", "--state", "deleted"], 2, "bad_value"),
        (["mark", "--trajectory", "t", "--step", "0"], 2, "usage"),
        (["mark", "--trajectory", "t", "--step", "-1", "--set", "a=1"], 2, "usage"),
        (["retain"], 2, "usage"),
        (["retain", "--older-than", "10m"], 2, "bad_retention"),
        (["retain", "--older-than", "month"], 2, "usage"),
        (["retain", "--max-bytes", "50X"], 2, "usage"),
        (["retain", "--older-than", "30d", "--keep", "gold"], 2, "bad_retention"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_what_is_wrong(words: list[str], status: int, code: str | None) -> None:
    done = pool(*words)
    assert done.status == status, done.error
    assert code is None or done.error["code"] == code


def test_a_gateway_takes_no_age_that_cuts_leases_short() -> None:
    words = [sys.executable, "-m", "moorage.cli.main", "gateway", "--upstream", "http://127.0.0.1:1", "--json"]
    done = subprocess.run([*words, "--retain-age", "10m"], env=env(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "bad_retention")
