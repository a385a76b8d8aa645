"""A gateway under half of its load: nothing leaks, nothing is lost, nothing unexpected is said.

The short form; `python -m tests.campaigns soak` goes on for an hour and looks at the memory too.
"""

from __future__ import annotations

import random
import socket
import struct
from pathlib import Path

from tests.campaigns.findings import Findings
from tests.campaigns.soak.campaign import SoakPlan, run_soak
from tests.campaigns.soak.comparing import compare_log
from tests.campaigns.soak.wire import request_bytes
from tests.contract.gateway_calls import fresh, step
from tests.contract.gateway_process import running_gateway

PLAN = SoakPlan(minutes=0.09, clients=24, calibrate_s=1.5)


def test_nothing_leaks_and_nothing_is_lost(tmp_path: Path) -> None:
    findings = run_soak(tmp_path, PLAN, seed=random.randrange(2**32))
    assert not findings.faults, findings.table()
    counts = findings.counts
    assert counts["of these, stored exactly once"] == counts["choices of replies whose last byte came"] > 0
    for shown in ("trajectories completed", "leases acknowledged", "wrong requests, refused as documented"):
        assert counts[shown] > 0, f"{shown}: this run has shown nothing of it\n{findings.table()}"


def test_clients_that_go_away_while_the_store_is_asked_are_no_fault(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as gateway:
        for path in ("/submit_steps", "/nobodys/nobodys/v1/register_trajectory"):
            for _ in range(25):
                asked = request_bytes("POST", path, {"steps": [step(fresh())]})
                with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.sendall(asked)
        assert gateway.get("/ready").status_code == 200
        assert gateway.stop() == 0
    findings = Findings("left", 0)
    compare_log(gateway.said, findings)
    assert not findings.faults, findings.table()
    assert findings.counts["log: info client_gone"] > 0
