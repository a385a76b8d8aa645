"""A clock that somebody sets: nothing that waits, and no session, notices. The clock is that of Debian's faketime."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.contract.gateway_calls import chat, fresh, init, row_of, step, submit
from tests.contract.gateway_process import GatewayProcess, running_gateway
from tests.real.parts.absence import require_real

DAY_S = 86_400


def library() -> Path:
    """Of the package faketime."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    return found[0] if found else require_real("libfaketime is not installed: apt-get install -y faketime")


def set_clock(file: Path, days: int) -> None:
    """What programs that began with this file are told from now on."""
    new = file.with_suffix(".new")
    new.write_text(f"{days * DAY_S:+d}\n")
    new.rename(file)


def test_a_clock_that_jumps_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "clock"
    set_clock(file, 0)
    monkeypatch.setenv("LD_PRELOAD", str(library()))
    for name, value in (("TIMESTAMP_FILE", str(file)), ("NO_CACHE", "1"), ("DONT_FAKE_MONOTONIC", "1")):
        monkeypatch.setenv(f"FAKETIME_{name}", value)
    monkeypatch.setenv("DONT_FAKE_MONOTONIC", "1")
    with running_gateway(tmp_path, "--session-ttl", "8", "--client-timeout", "5", "--idle-timeout", "5") as gateway:
        session = gateway.post("/sessions/create", {}).json()
        assert abs(session["created_at"] - time.time()) < 600
        channel = fresh()
        submit(gateway, step(fresh(), is_last=True), channel=channel)
        assert len(gateway.post("/pool/lease", {"channel": channel, "lease_s": 3600}).json()["leases"]) == 1
        # What several machines share goes by the time of day: a lease ends early, and is never given out twice at once.
        for days, leased_again in ((-1, 0), (1, 1)):
            gateway.post("/pause")
            set_clock(file, days)
            assert day_of(gateway) == time.strftime("%Y-%m-%d", time.gmtime(time.time() + days * DAY_S))
            told = gateway.post("/pause", {"wait_s": 5}).json()
            assert (told["in_flight"], told["silent"]) == (0, 0)
            assert gateway.post("/resume").json()["paused_s"] >= 0
            assert gateway.post(f"/{session['uuid']}/v1/chat/completions", chat(seed=days)).status_code == 200
            began = time.monotonic()
            while time.monotonic() - began < 2.5:  # idle sessions are looked for every two seconds
                assert [one["uuid"] for one in gateway.get("/sessions").json()["sessions"]] == [session["uuid"]]
            assert gateway.get("/health").status_code == 200
            assert len(gateway.post("/pool/lease", {"channel": channel}).json()["leases"]) == leased_again
        assert gateway.process.poll() is None


def day_of(gateway: GatewayProcess) -> str:
    """The day that the gateway believes it is."""
    uid = init(gateway)["trajectory_uid"]
    return str(row_of(gateway, uid)["created_at"])[:10]
