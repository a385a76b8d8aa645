"""Ten thousand clients that are connected and say nothing: what they cost, and that nobody else notices."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.contract.gateway_calls import chat, init
from tests.contract.gateway_process import GatewayProcess, running_gateway

CROWD = 10_000
BYTES_EACH = 6_000
"""Of the gateway's memory; the kernel's buffers are not in it. 2,600 were measured."""


def memory_bytes(gateway: GatewayProcess) -> int:
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def test_ten_thousand_idle_connections(tmp_path: Path) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1.5 * CROWD:
        pytest.skip(f"a process may have fewer than {1.5 * CROWD:.0f} files open here")
    with running_gateway(tmp_path) as gateway:
        path = f"{init(gateway)['path']}/chat/completions"
        assert gateway.post(path, chat()).status_code == 200
        before = memory_bytes(gateway)
        words = [sys.executable, "-m", "tests.contract.idle_crowd", str(gateway.port), str(CROWD)]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as crowd:
            assert crowd.stdin is not None
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == f"here {CROWD}\n"
            each = (memory_bytes(gateway) - before) / CROWD
            sys.stdout.write(f"{each:.0f} bytes an idle connection\n")
            assert each < BYTES_EACH
            took = []
            for _ in range(20):
                began = time.monotonic()
                assert gateway.post(path, chat()).status_code == 200
                took.append(time.monotonic() - began)
            assert sorted(took)[10] < 0.5
            told = gateway.get("/metrics").text
            assert f"moorage_connections_open {CROWD + 1}" in told.replace(".0\n", "\n")
            crowd.stdin.write("again\n")
            crowd.stdin.flush()
            assert crowd.stdout.readline() == f"alive {CROWD}\n"
        assert gateway.post(path, chat()).status_code == 200
