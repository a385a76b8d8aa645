"""Which port a service takes when others want it too."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.contract.platform_contract import free_port
from tests.contract.stand_ins import StandIns

RANGE = range(8080, 8200)


def test_no_port_is_left(local: StandIns) -> None:
    local.own_ports = False
    held = {f"id{port}": {"platform": "local-process", "host_port": port} for port in RANGE}
    local.write_state(held)
    before = local.state_file.read_bytes()
    for more in ([], ["--dry-run"]):
        done = local.try_start("ready", *more)
        assert (done.rc, done.out["error"]["code"]) == (6, "ports_exhausted"), done
        assert "moor prune" in done.out["error"]["next"]
    checked = local.moor("doctor", "--json")
    assert (checked.rc, [one["ok"] for one in checked.out["data"]["checks"] if one["name"] == "ports"]) == (5, [False])
    assert local.state_file.read_bytes() == before
    port = free_port()
    assert local.start("never-ready", "--no-wait", "--host-port", str(port))["host_port"] == port


def test_a_port_that_a_service_holds_names_it(local: StandIns) -> None:
    entry = local.start("never-ready", "--no-wait")
    for more in ([], ["--dry-run"]):
        done = local.try_start("ready", "--host-port", str(entry["host_port"]), *more)
        assert (done.rc, done.out["error"]["code"]) == (6, "port_taken")
        assert entry["job_id"] in done.out["error"]["message"]
        assert done.out["error"]["next"] == [f"moor stop {entry['job_id']}"]


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::1"])
def test_a_port_that_another_program_holds(local: StandIns, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as holder:
        done = local.try_start("ready", "--host-port", str(holder.getsockname()[1]))
    assert (done.rc, done.out["error"]["code"]) == (6, "port_taken")
    assert "another program" in done.out["error"]["message"]


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "8080.5", ""])
def test_no_port(local: StandIns, port: str) -> None:
    done = local.here(*local.words("ready", f"--host-port={port}"))
    assert done.rc == 2
    assert not local.state_file.exists()


def test_a_port_that_another_program_listens_on_is_passed_over(stand_ins: StandIns) -> None:
    stand_ins.own_ports = False
    planned = stand_ins.here(*stand_ins.words("ready", "--dry-run")).out["data"]["plan"]["port"]
    assert planned in RANGE
    with answering(planned):
        entry = stand_ins.start()
    assert entry["host_port"] in RANGE
    assert entry["host_port"] != planned


def test_a_port_that_is_taken_before_the_service_binds_it(stand_ins: StandIns) -> None:
    """The test takes it as soon as the entry is written; a server needs longer than that to come up."""
    stand_ins.own_ports = False
    job_id = stand_ins.new_id()
    start = stand_ins.popen_start(job_id=job_id)
    port = stand_ins.await_entry(job_id)["host_port"]
    with answering(port):
        out, err = start.communicate(timeout=120)
    assert start.returncode == 0, (out, err)
    assert json.loads(out)["data"]["host_port"] != port
    assert "trying the next port" in err
    assert stand_ins.seen(job_id)["state"] == "ready"


def test_a_chosen_port_that_is_taken_is_not_exchanged(stand_ins: StandIns) -> None:
    port, job_id = free_port(), stand_ins.new_id()
    start = stand_ins.popen_start("ready", "--host-port", str(port), job_id=job_id)
    stand_ins.await_entry(job_id)
    with answering(port):
        out, _ = start.communicate(timeout=120)
    assert (start.returncode, json.loads(out)["error"]["code"]) == (6, "port_taken")
    assert stand_ins.left_of(job_id) == []


@contextmanager
def answering(port: int) -> Iterator[None]:
    """Listen on the port, and hang up on whoever calls. Somebody who was quicker does as well."""

    def hang_up() -> None:
        with contextlib.suppress(OSError):
            while True:
                listener.accept()[0].close()

    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            listener.listen()
            threading.Thread(target=hang_up, daemon=True).start()
        yield
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
