"""`moor pool` and who answers instead of a gateway: other programs, tables that lie, doors that want another key."""

from __future__ import annotations

import json
import threading
from array import array
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from moorage.errors import FailedError
from moorage.pool.arrow import step_stream
from moorage.pool.tools.over_http import OverHttp
from moorage.pool.tools.packing import packed
from tests.contract.test_pool_cli import pool


def test_another_program_on_the_port_is_told(tmp_path: Path) -> None:
    """It answers everything with a page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", "6")
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        output = str(tmp_path / "steps")
        for words in (["stats"], ["export", "--format", "jsonl", "--output", output]):
            done = pool(*words, "--url", url)
            assert (done.status, done.error["code"]) == (8, "bad_reply")
        assert list(tmp_path.iterdir()) == []
    finally:
        server.shutdown()
        server.server_close()


def lying_tables() -> dict[str, bytes]:
    """Arrow streams that are cut, of other types, without a column, or with lists that lie outside their values."""
    step = {"trajectory_uid": "t", "prompt_uid": None, "step_index": 0, "prompt_ids": [1] * 777, "response_ids": [3]}
    step |= {"rollout_log_probs": None, "reward": None, "policy_version": 0, "is_last": False, "channel": "c"}
    true = step_stream([packed(json.dumps(step).encode())], None)
    table = pa.ipc.open_stream(true).read_all()
    ends, beyond = (array("i", [0, end]).tobytes() for end in (777, 1 << 20))
    before, _, after = true.rpartition(ends)
    return {
        "cut": true[: len(true) // 2],
        "garbage": b"\xff\xff\xff\xff" + b"x" * 400,
        "empty": b"",
        "types": written(table.set_column(0, "trajectory_uid", pa.array([1]))),
        "missing": written(table.drop_columns(["marks"])),
        "offsets": before + beyond + after,
    }


def written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


def test_tables_that_lie_are_told(tmp_path: Path) -> None:
    bodies = lying_tables()
    told = list(bodies.values())

    class Liar(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = told.pop(0)
            self.send_response(200)
            self.send_header("content-type", "application/vnd.apache.arrow.stream")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        for name in bodies:
            with pytest.raises(FailedError, match="answers what no gateway") as raised:
                list(OverHttp(url, None, say=print).batches({}))
            assert raised.value.code == "bad_reply", name
    finally:
        server.shutdown()
        server.server_close()


def test_a_key_is_sent_and_never_shown() -> None:
    seen: list[str | None] = []

    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers.get("authorization"))
            self.send_response(401)
            body = json.dumps({"status": 401, "code": "key_wrong", "detail": "no such key"}).encode()
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = pool("stats", "--url", f"http://127.0.0.1:{server.server_port}", "--key-env", "MINE", MINE="s3cret-key")
        assert (done.status, done.error["code"]) == (5, "key_wrong")
        assert seen == ["Bearer s3cret-key"]
        assert "s3cret" not in json.dumps(done.error) + done.stderr
    finally:
        server.shutdown()
        server.server_close()
