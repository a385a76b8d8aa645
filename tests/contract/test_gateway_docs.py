"""docs/gateway.md: what it says to type works, replies have the fields that it shows, its tables are complete."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from moorage.capture.call import Reason
from tests.bundle.checkout import ROOT, codes, section, table_rows
from tests.bundle.test_documents import flags_of
from tests.contract.gateway_process import GatewayProcess, running_gateway

WEAKNESSES = table_rows((ROOT / "docs/gateway-weaknesses.md").read_text(encoding="utf-8"))
PAGE = (ROOT / "docs/gateway.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
MARK = "--- end of a block ---"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def blocks() -> list[tuple[str, str | None]]:
    """Each bash block, and the JSON block right after it."""
    found = re.findall(r"```bash\n(.*?)```\n(?:\n```json\n(.*?)```)?", PAGE, re.DOTALL)
    return [(script, shown or None) for script, shown in found]


def test_what_the_page_says_to_type_works(gateway: GatewayProcess, tmp_path: Path) -> None:
    """All blocks in one shell, as a reader has it; curl fails for every status that is none of success."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    script = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; echo; }\n'
    script += "".join(f"{block}\necho '{MARK}'\n" for block, _ in blocks())
    done = subprocess.run(
        ["bash", "-c", script.replace("http://127.0.0.1:8100", gateway.url)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.split(MARK)[:-1]
    assert len(said) == len(blocks()) >= 12
    for (block, shown), answer in zip(blocks(), said, strict=True):
        if shown is not None:
            last = answer.strip().splitlines()[-1]
            assert missing(json.loads(shown), json.loads(last)) == [], f"{block}{last}"


def missing(shown: Any, answered: Any, at: str = "") -> list[str]:
    """Fields that are shown and were not answered; of a list its first element speaks for all."""
    if isinstance(shown, dict):
        if not isinstance(answered, dict):
            return [at]
        return [
            lack
            for name, value in shown.items()
            for lack in (missing(value, answered[name], f"{at}/{name}") if name in answered else [f"{at}/{name}"])
        ]
    if isinstance(shown, list) and shown:
        return missing(shown[0], answered[0], f"{at}/0") if isinstance(answered, list) and answered else [at]
    return []


def test_every_flag_is_in_the_table_and_no_other() -> None:
    rows = table_rows(section(PAGE, "Start it"))
    named = {word.split()[0] for row in rows for word in codes(row[0]) if word.startswith("--")}
    assert named == {flag for flag in flags_of("gateway") if flag.startswith("--")} - {"--json", "--help"}


def test_every_reason_is_in_the_table_and_no_other() -> None:
    rows = table_rows(section(PAGE, "Exact and passthrough"))
    assert {row[0] for row in rows} >= {f"`{reason}`" for reason in get_args(Reason)}
    named = {codes(row[0])[0] for row in rows if row[0].startswith("`")}
    assert named == set(get_args(Reason))


def test_the_codes_of_the_faults_exist() -> None:
    named = {code for row in table_rows(section(PAGE, "Faults")) for code in codes(row[1])}
    layers = [ROOT / "moorage" / layer for layer in ("gateway", "engines", "pool", "rewards", "traces")]
    source = "".join(file.read_text(encoding="utf-8") for layer in layers for file in sorted(layer.rglob("*.py")))
    written = set(re.findall(r'code ?= ?"([a-z_]+)"', source))
    made_of_a_kind = {"session_unknown", "trajectory_unknown"}
    assert [code for code in named - made_of_a_kind if f'"{code}"' not in source] == []
    at_start = set(re.findall(r"`([a-z_]+)`", section(PAGE, "Start it")))
    never_told = {"bad_header", "bad_method", "bad_target"}  # what we ask an engine with is ours
    of_commands = {code for row in table_rows(section(COMMANDS, "Error codes")) for code in codes(row[0])}
    assert written - named - at_start - of_commands - never_told == set()


def test_the_metrics_exist(gateway: GatewayProcess) -> None:
    gateway.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]})
    told = gateway.get("/metrics").text
    for row in table_rows(section(PAGE, "Metrics and logs")):
        [name] = codes(row[0])
        assert re.search(rf"^# TYPE {name.removesuffix('_total')}(_total)? ", told, re.MULTILINE), name


def test_every_weakness_has_its_row() -> None:
    assert [row[0] for row in WEAKNESSES] == [*(f"W{number}" for number in range(1, 41)), *map(str, range(1, 16))]


@pytest.mark.parametrize("row", WEAKNESSES, ids=[row[0] for row in WEAKNESSES])
def test_an_answer_to_a_weakness_is_shown_by_tests_that_exist(row: list[str]) -> None:
    _, weakness, answer, shown_by = row
    assert weakness.endswith(".")
    assert answer.endswith(".")
    named = codes(shown_by)
    assert named, "no test shows it"
    for name in named:
        file, _, test = name.partition("::")
        assert test in named_tests(ROOT / file), name


def named_tests(file: Path) -> set[str]:
    """`test_name` and `TestClass::test_name` of one file."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        functions = (one for one in inner if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))
        found |= {prefix + one.name for one in functions if one.name.startswith("test_")}
    return found
