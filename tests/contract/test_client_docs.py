"""The examples of docs/client.md, run as they stand there, addresses apart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.gateway_process import GatewayProcess, running_gateway
from tests.stand_ins.small_engine import SmallEngine

ROOT = Path(__file__).resolve().parents[2]
NANO = ROOT / "models" / "nano"
SECTIONS = (ROOT / "docs" / "client.md").read_text().split("\n## ")[1:]
EXAMPLES = [
    (section.partition("\n")[0], program)
    for section in SECTIONS
    for program in re.findall(r"^```python\n(.*?)^```", section, re.S | re.M)
]
SAYS = {
    "A rollout": r"(?s).*\n(\d+ \d+ \d+ (stop|length)\n)+$",
    "A trainer": r"(1\.0 \d+ \d+ \[-?[\d.e-]+\]\n){2}$",
    "Rewards": r"[\d.]+ numeric \d+\n$",
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    flags = ("--tokenizer-path", str(NANO), "--reward", "numeric")
    replies = SmallEngine(NANO, model="stub")
    with running_gateway(tmp_path_factory.mktemp("docs"), *flags, replies=replies) as running:
        yield running


@pytest.mark.parametrize(("title", "program"), EXAMPLES, ids=[title for title, _ in EXAMPLES])
def test_example(gateway: GatewayProcess, title: str, program: str) -> None:
    engine = gateway.stub.url.removesuffix("/v1")
    program = program.replace("http://127.0.0.1:8080", engine).replace("http://127.0.0.1:8100", gateway.url)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120, env=environ
    )
    assert ran.returncode == 0, ran.stderr
    assert re.match(SAYS[title], ran.stdout), ran.stdout


def test_there_are_three() -> None:
    assert [title for title, _ in EXAMPLES] == list(SAYS)
