"""`moor trace list|show|verify|export` on a store that a gateway wrote, while it writes and after."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from moorage.pool.sqlite.schema import MIGRATIONS
from tests.conftest import ROOT, Answer, Moor
from tests.contract.gateway_calls import chat, init, step, submit
from tests.contract.gateway_process import GatewayProcess, running_gateway
from tests.contract.trace_runs import NANO, SCRIPT, play, scripted_engine

FLIPS = int(os.environ.get("MOORAGE_TRACE_FLIPS", "60"))
"""Bytes that are flipped in a store; `MOORAGE_TRACE_FLIPS=0` flips each one."""


class Store(NamedTuple):
    """A store at rest, and who is in it."""

    path: Path
    session: str
    trajectory: str
    submitted: str

    @property
    def db(self) -> str:
        return f"sqlite:///{self.path}"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    engine = scripted_engine()
    with running_gateway(folder, "--tokenizer-path", str(NANO), replies=engine) as gateway:
        session = gateway.post("/sessions/create", {"mode": "passthrough"}).json()["uuid"]
        play(f"{gateway.url}/{session}/v1")
        engine.say.extend(SCRIPT)
        made = init(gateway, channel="eval", metadata={"run": 1})
        play(made["openai_base_url"])
        gateway.post(f"/complete_trajectory/{made['trajectory_uid']}", {"reward": 0.5})
        steps = [step("mine", 0), step("mine", 1, prompt_ids=[1, 2, 3, 4, 9]), step("mine", 2, prompt_ids=[1, 5])]
        assert submit(gateway, *steps).status_code == 200
        assert gateway.stop() == 0
    return Store(folder / "gateway.db", session, made["trajectory_uid"], "mine")


@pytest.fixture
def trace(moor: Moor) -> Any:
    """`trace("list", …)`, with --json."""

    def run(*words: str | Path, db: str) -> Answer:
        return moor("trace", *words, "--db", db, "--json")

    return run


def error_of(answer: Answer, rc: int, code: str) -> dict[str, Any]:
    assert (answer.rc, answer.out["error"]["code"]) == (rc, code), answer
    found: dict[str, Any] = answer.out
    return found


def test_list(store: Store, trace: Any, moor: Moor) -> None:
    data = trace("list", db=store.db).out["data"]
    rows = {row["uid"]: row for row in data["traces"]}
    assert set(rows) == {store.session, store.trajectory, store.submitted}
    assert [row["created_at"] for row in data["traces"]] == sorted(
        (row["created_at"] for row in rows.values()), reverse=True
    )
    row = rows[store.trajectory]
    assert (row["kind"], row["state"], row["channel"], row["calls"]) == ("trajectory", "complete", "eval", 10)
    assert sum(row["verdicts"].values()) == 10
    assert row["verdicts"]["exact"] > 0
    assert row["tokens"]["sampled"] > 0
    assert row["last_call_at"] >= row["first_call_at"]
    one = trace("list", "--kind", "session", "--limit", "1", db=store.db).out["data"]
    assert [row["uid"] for row in one["traces"]] == [store.session]
    assert not one["more"]
    assert trace("list", "--limit", "2", db=store.db).out["data"]["more"]
    assert not trace("list", "--channel", "none", db=store.db).out["data"]["traces"]
    assert [row["uid"] for row in trace("list", "--state", "complete", db=store.db).out["data"]["traces"]] == [
        store.trajectory
    ]
    said = moor("trace", "list", "--db", store.db)
    assert store.session in said.out
    assert "UID" in said.out


def test_show(store: Store, trace: Any, moor: Moor) -> None:
    data = trace("show", store.trajectory, "--tokenizer-path", NANO, db=store.db).out["data"]
    assert len(data["calls"]) == 10
    for call in data["calls"]:
        assert len(call["sampled"]["ids"]) == len(call["sampled"]["logprobs"]) == len(call["sampled"]["texts"])
        assert call["prompt_tokens"] == call["keep"] + len(call["prompt"]["ids"])
    text = moor("trace", "show", store.trajectory, "--tokenizer-path", NANO, "--db", store.db).out
    assert "What·is·two·and·three?<|im_end|>" in text
    assert "\x1b" not in text
    one = moor("trace", "show", store.trajectory, "--call", "1", "--logprobs", "--db", store.db).out
    assert "call 1 " in one
    assert "call 0 " not in one.replace("of call 0", "")
    error_of(trace("show", store.trajectory, "--call", "10", db=store.db), 3, "unknown_call")
    error_of(trace("show", "nobody", db=store.db), 3, "unknown_trajectory")
    error_of(trace("show", store.trajectory, "--tokenizer-path", "nowhere", db=store.db), 5, "tokenizer_missing")


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_show_on_a_terminal(store: Store, variables: dict[str, str], coloured: bool) -> None:
    ours, theirs = os.openpty()
    words = ["trace", "show", store.trajectory, "--tokenizer-path", str(NANO), "--db", store.db, "--width", "90"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"} | variables
    with subprocess.Popen([sys.executable, "-m", "moorage.cli.main", *words], stdout=theirs, env=environ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the terminal's other end is closed
                break
        assert process.wait(60) == 0
    os.close(ours)
    assert (b"\x1b[" in shown) is coloured
    assert b"two" in shown


def test_a_picture(store: Store, moor: Moor, tmp_path: Path) -> None:
    svg = tmp_path / "a.svg"
    done = moor("trace", "show", store.session, "--tokenizer-path", NANO, "--svg", svg, "--db", store.db)
    assert done.rc == 0, done.err
    assert svg.read_text().startswith("<svg")


def test_verify(store: Store, trace: Any, moor: Moor) -> None:
    data = trace("verify", "--all", db=store.db).out["data"]
    assert (data["trajectories"], data["calls"], data["faults"]) == (3, 23, [])
    assert data["judged"] + sum(data["not_judged"].values()) == 23
    assert data["judged"] >= 20
    one = trace("verify", store.session, db=store.db).out["data"]
    assert (one["trajectories"], one["calls"]) == (1, 10)
    with sqlite3.connect(store.path) as db:
        last = db.execute(
            "SELECT hash FROM calls WHERE trajectory = (SELECT id FROM trajectories WHERE uid = ?) ORDER BY seq DESC",
            (store.session,),
        ).fetchone()
    assert one["head"] == last[0].hex()
    assert "no faults in 23 calls" in moor("trace", "verify", "--all", "--db", store.db).out
    error_of(trace("verify", "nobody", db=store.db), 3, "unknown_trajectory")


def test_one_flipped_byte_anywhere_is_found_and_named(store: Store, tmp_path: Path) -> None:
    """In the rows themselves, compressed or not; in this process, since there are many."""
    from moorage.pool.opening import open_store
    from moorage.traces.verifying.verify import verify

    copy = tmp_path / "copy.db"
    shutil.copy(store.path, copy)

    def faults() -> list[Any]:
        async def run() -> list[Any]:
            archive = open_store(f"sqlite:///{copy}", read_only=True)
            await archive.open()
            try:
                return (await verify(archive, None, lambda done, total: None)).faults
            finally:
                await archive.close()

        import asyncio

        return asyncio.run(run())

    assert not faults()
    with sqlite3.connect(copy, isolation_level=None) as db:
        columns = [
            ("calls", "id", "record"),
            ("calls", "id", "hash"),
            ("extras", "call", "data"),
            ("blobs", "digest", "data"),
        ]
        columns.append(("pieces", "id", "data"))
        places = [
            (table, key, column, row[0], at, row[1])
            for table, key, column in columns
            for row in db.execute(f"SELECT {key}, {column} FROM {table}")
            for at in range(len(row[1]))
        ]
        harmless = 0
        for table, key, column, row, at, content in places[:: max(1, len(places) // FLIPS) if FLIPS else 1]:
            spoiled = content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1 :]
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (spoiled, row))
            found = faults()
            if not found:  # bytes of zstd's frame that no reader looks at: what is read is what was written
                harmless += 1
                assert unpacked(spoiled) == unpacked(content), (table, column, row, at)
            elif table == "calls":
                [seq, uid] = db.execute(
                    "SELECT c.seq, t.uid FROM calls c JOIN trajectories t ON t.id = c.trajectory WHERE c.id = ?", (row,)
                ).fetchone()
                assert any((one.uid, one.call) == (uid, seq) and column in one.field for one in found), found
            db.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (content, row))
        assert harmless < len(places) / 20
    assert not faults()


def unpacked(content: bytes) -> bytes:
    from moorage.pool.sql.records import unpack

    return unpack(content)


def test_a_fault_is_told_with_call_and_field(store: Store, trace: Any, moor: Moor, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    shutil.copy(store.path, copy)
    with sqlite3.connect(copy) as db:
        [number, content] = db.execute(
            "SELECT c.id, c.hash FROM calls c JOIN trajectories t ON t.id = c.trajectory WHERE t.uid = ? AND c.seq = 4",
            (store.session,),
        ).fetchone()
        db.execute("UPDATE calls SET hash = ? WHERE id = ?", (bytes([content[0] ^ 1]) + content[1:], number))
    found = error_of(trace("verify", "--all", db=f"sqlite:///{copy}"), 8, "trace_faults")
    [fault] = found["data"]["faults"]
    assert (fault["uid"], fault["call"], fault["field"]) == (store.session, 4, "hash")
    said = moor("trace", "verify", store.session, "--db", f"sqlite:///{copy}")
    assert said.rc == 8
    assert f"{store.session} call 4 hash" in said.out
    assert trace("verify", store.trajectory, db=f"sqlite:///{copy}").rc == 0


@pytest.mark.parametrize("kind", ["jsonl", "nodes", "parquet"])
def test_export(store: Store, trace: Any, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "out"
    data = trace("export", "--all", "--format", kind, "--output", path, db=store.db).out["data"]
    assert data["output"] == str(path)
    if kind == "parquet":
        import pyarrow.parquet as parquet

        rows = parquet.read_table(path).to_pylist()
        assert {row["session_id"] for row in rows} == {store.session, store.trajectory, store.submitted}
        assert len(rows) == 23
    else:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        if kind == "jsonl":
            assert len(rows) == 23
            [last] = [row for row in rows if row["is_last"]]
            assert (last["trajectory_uid"], last["reward"], last["metadata"]) == (store.trajectory, 0.5, {"run": 1})
        else:
            assert all(len(row["tokens"]) == len(row["masked_tokens"]) == len(row["logprobs"]) for row in rows)
            assert {row["uuid"] for row in rows} == {store.session, store.trajectory, store.submitted}
    assert data["rows"] == len(rows)
    error_of(trace("export", "--all", "--format", kind, "--output", path, db=store.db), 6, "output_exists")
    one = trace("export", store.submitted, "--format", kind, "--output", path, "--force", db=store.db)
    assert one.out["data"]["rows"] == (2 if kind == "nodes" else 3)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".out")] == []


def test_nodes_have_their_text_with_a_tokenizer(store: Store, trace: Any, tmp_path: Path) -> None:
    path = tmp_path / "out"
    words = ("export", store.session, "--format", "nodes", "--output", path, "--tokenizer-path", NANO)
    assert trace(*words, db=store.db).rc == 0
    assert "What is two and three?<|im_end|>" in path.read_text()


def test_a_gateway_that_writes_is_not_disturbed(trace: Any, tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        db = f"sqlite:///{gateway.db}"
        paths = [init(gateway)["path"] for _ in range(3)]
        for turn in range(4):
            for path in paths:
                ask(gateway, path)
            assert trace("verify", "--all", db=db).out["data"]["calls"] == 3 * (turn + 1)
            assert trace("list", db=db).out["data"]["traces"][0]["calls"] == turn + 1
        assert gateway.stop() == 0
    assert trace("verify", "--all", db=db).out["data"]["calls"] == 12


def ask(gateway: GatewayProcess, path: str) -> None:
    assert gateway.post(f"{path}/v1/chat/completions", chat()).status_code == 200


def test_a_store_is_not_made_and_not_changed(store: Store, trace: Any, tmp_path: Path) -> None:
    missing = tmp_path / "sub" / "none.db"
    for words in (("list",), ("verify", "--all"), ("show", "x"), ("replay", "--all", "--port", "0")):
        error_of(trace(*words, db=f"sqlite:///{missing}"), 3, "store_missing")
    assert not missing.parent.exists()
    copy = tmp_path / "copy.db"
    shutil.copy(store.path, copy)
    copy.chmod(0o400)
    before = copy.read_bytes(), copy.stat().st_mtime_ns
    assert trace("verify", "--all", db=f"sqlite:///{copy}").rc == 0
    assert (copy.read_bytes(), copy.stat().st_mtime_ns) == before


def test_stores_that_are_none(store: Store, trace: Any, tmp_path: Path) -> None:
    newer = tmp_path / "newer.db"
    shutil.copy(store.path, newer)
    with sqlite3.connect(newer) as db:
        db.execute("INSERT INTO moorage_migrations VALUES (?, 'later', 0)", (len(MIGRATIONS) + 1,))
    error_of(trace("list", db=f"sqlite:///{newer}"), 5, "store_newer")
    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as db:
        db.execute("CREATE TABLE a (b)")
    error_of(trace("list", db=f"sqlite:///{foreign}"), 5, "store_foreign")
    text = tmp_path / "text.db"
    text.write_text("not a database, but long enough to be read as one" * 20)
    error_of(trace("list", db=f"sqlite:///{text}"), 5, "store_corrupt")
    error_of(trace("list", db=f"sqlite:///{tmp_path}"), 3, "store_missing")
    error_of(trace("list", db="mysql://x"), 2, "bad_value")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("lst",),
        ("list", "x"),
        ("list", "--limit", "0"),
        ("list", "--kind", "x"),
        ("list", "--all"),
        ("show",),
        ("show", "x", "--all"),
        ("show", "x", "--port", "1"),
        ("show", "x", "--call", "-1"),
        ("verify",),
        ("verify", "x", "--all"),
        ("replay", "x", "--format", "jsonl"),
        ("export", "x", "--output", "f"),
        ("export", "x", "--format", "csv", "--output", "f"),
        ("export", "x", "--format", "jsonl"),
    ],
)
def test_wrong_command_lines(store: Store, moor: Moor, words: tuple[str, ...], tmp_path: Path) -> None:
    answer = moor("trace", *words, "--db", store.db, "--json")
    assert answer.rc == 2, answer
    assert not answer.out["ok"]


def test_a_replay_is_for_this_machine_alone(store: Store, trace: Any) -> None:
    error_of(trace("replay", "--all", "--host", "0.0.0.0", db=store.db), 5, "keys_required")
    error_of(trace("replay", store.submitted, "--port", "0", db=store.db), 8, "nothing_to_replay")
    error_of(trace("replay", "nobody", "--port", "0", db=store.db), 3, "unknown_trajectory")
    error_of(trace("replay", "--all", "--port", "99999", db=store.db), 2, "bad_value")
