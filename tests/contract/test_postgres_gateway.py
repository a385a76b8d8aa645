"""`moor gateway --db postgresql://…`: calls, leases, a server that goes away, and a password that nobody sees."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("psycopg")

from moorage.extras import install_command
from tests.contract.gateway_process import GatewayProcess, StubThread, wait_until

pytestmark = pytest.mark.postgres
CHAT = {"model": "stub", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def gateway(postgres, tmp_path, monkeypatch):
    schema = postgres.new_schema()
    url = postgres.url(schema).replace(f":{postgres.password}@", "@")
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    stub = StubThread()
    process = GatewayProcess(stub, tmp_path / "no.db", "--db", url)
    try:
        yield process
    finally:
        process.kill()
        stub.close()


def test_calls_and_leases(gateway, tmp_path):
    made = gateway.post("/init_trajectory", {"prompt_uid": "g"}).json()
    for _ in range(2):
        assert gateway.post(f"{made['base_url']}/chat/completions", CHAT).status_code == 200
    assert gateway.post(f"/complete_trajectory/{made['trajectory_uid']}", {"reward": 1.5}).status_code == 200
    (lease,) = gateway.post("/pool/lease").json()["leases"]
    (run,) = lease["trajectories"]
    assert [step["step_index"] for step in run["steps"]] == [0, 1] and run["reward"] == 1.5
    assert gateway.post("/pool/ack", {"lease_ids": [lease["lease_id"]]}).json() == {"acked": 1}
    assert gateway.get("/pool/stats").json()["channels"]["train"]["groups"]["acked"] == 1
    assert not (tmp_path / "no.db").exists()
    assert gateway.stop() == 0


def test_a_server_that_goes_away_and_comes_back(gateway, postgres):
    made = gateway.post("/init_trajectory", {}).json()
    chat = f"{made['base_url']}/chat/completions"
    assert gateway.post(chat, CHAT).status_code == 200
    postgres.kill()
    try:
        for path, body in ((chat, CHAT), ("/init_trajectory", {}), ("/pool/lease", {})):
            refused = gateway.post(path, body)
            assert refused.status_code == 503 and "store_unavailable" in refused.text
            assert int(refused.headers["Retry-After"]) > 0
    finally:
        postgres.start()
    wait_until(lambda: gateway.post(chat, CHAT).status_code == 200)
    steps = gateway.get(f"/pool/steps?trajectory_uid={made['trajectory_uid']}").json()["steps"]
    assert [step["step_index"] for step in steps] == list(range(len(steps))) and len(steps) == 2


def test_a_password_is_in_no_message(moor, postgres):
    url = "postgresql://somebody:hidden@127.0.0.1:1/db"
    answer = moor("gateway", "--port", "0", "--upstream", "http://127.0.0.1:9/v1", "--db", url, "--json")
    assert answer.rc == 5 and answer.out["error"]["code"] == "store_unusable"
    assert "hidden" not in f"{answer.out}{answer.err}"
    assert "somebody@127.0.0.1:1/db" in answer.out["error"]["message"]


def test_without_the_driver_the_extra_is_named(moor, tmp_path):
    """A driver that cannot be imported, whatever the reason."""
    (tmp_path / "psycopg.py").write_text("raise ImportError('no pq wrapper available')\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from moorage.cli.main import main; sys.exit(main())"
    root = Path(__file__).resolve().parents[2]
    words = ["gateway", "--port", "0", "--upstream", "http://127.0.0.1:9/v1", "--db", "postgresql:///db", "--json"]
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=root, capture_output=True, text=True, timeout=60)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (5, "package_missing")
    assert error["next"] == [install_command("postgres")]
