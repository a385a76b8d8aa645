"""/metrics: what the page of operations says of it, few labels whatever clients send, and its price."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.bundle.checkout import ROOT, codes, fenced, table_rows
from tests.contract.gateway_calls import chat, fresh, init, send_and_leave, step, submit
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.stand_ins.engine_stub import Fault

PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def series(gateway: GatewayProcess) -> Series:
    families = text_string_to_metric_families(gateway.get("/metrics").text)
    return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in families for one in family.samples}


def one(found: Series, name: str, **labels: str) -> float:
    """The sum of the series that have these labels."""
    return sum(value for (named, has), value in found.items() if named == name and labels.items() <= dict(has).items())


def test_the_page_has_every_metric_as_it_is(gateway: GatewayProcess) -> None:
    """Names, types, labels and help texts; the labels as far as there are values."""
    gateway.stub.spoil(*(Fault("close") for _ in range(4)))
    gateway.post("/v1/chat/completions", chat())
    wait_until(lambda: gateway.get("/health").status_code == 200)
    assert gateway.post(f"{init(gateway)['path']}/chat/completions", chat()).status_code == 200
    gateway.post("/weights", {"version": 1})
    gateway.post("/pause")
    told = gateway.get("/metrics").text
    gateway.post("/resume")
    rows = {
        codes(row[0])[0]: row[1:] for row in table_rows(PAGE.partition("<!-- metrics -->")[2])[: told.count("# TYPE")]
    }
    helps = dict(re.findall(r"^# HELP (moorage_\w+) (.*)$", told, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (moorage_\w+) (.*)$", told, re.MULTILINE))
    named = {name for name in rows if name.startswith("moorage_")}
    assert named == set(helps)
    for name in sorted(named):
        kind, labels, says = rows[name]
        has = re.findall(rf"^{name}(?:_bucket)?{{(.*)}} ", told, re.MULTILINE)
        assert (kind, says) == (kinds[name], helps[name])
        assert set(codes(labels)) == {label for one in has for label in re.findall(r"(\w+)=", one)} - {"le"}, name


def test_what_the_page_says_to_type_works(gateway: GatewayProcess, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    scripts = fenced(PAGE, "bash")
    shown = [json.loads(block) for block in fenced(PAGE, "json")]
    assert len(scripts) == len(shown) == 2
    gateway.post("/weights", {"version": 11, "force": True})
    for script, example in zip(scripts, shown, strict=True):
        shell = 'set -euo pipefail\ncurl() { command curl --fail-with-body "$@"; echo; }'
        whole = f"{shell}\nGATEWAY={gateway.url}\n{script}"
        done = subprocess.run(["bash", "-c", whole], capture_output=True, text=True, timeout=60, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert set(json.loads(done.stdout.strip().splitlines()[-1])) == set(example)
    assert gateway.post("/resume").status_code == 200


def test_labels_are_few_whatever_clients_send(gateway: GatewayProcess) -> None:
    before = len(series(gateway))
    for number in range(70):
        name = fresh()
        gateway.get(f"/{name}")
        gateway.http.request(f"M{number}", f"{gateway.url}/v1/{name}", timeout=30)
        gateway.post(f"/{name}/v1/chat/completions", chat())
        assert submit(gateway, step(name), channel=f"channel-{number}").status_code == 200
    gateway.stub.spoil(
        *(Fault("status", status=status) for status in (400, 418, 499, 599, 600, 799, 999) for _ in range(4))
    )
    for _ in range(12):
        gateway.post("/v1/chat/completions", chat())
    gateway.stub.heal()
    wait_until(lambda: one(series(gateway), "moorage_pool_steps", channel="(others)") > 0, within_s=20)
    found = series(gateway)
    channels = {dict(labels)["channel"] for name, labels in found if name == "moorage_pool_groups"}
    assert len(channels) == 51
    assert one(found, "moorage_pool_steps") >= 70
    routes = {dict(labels)["route"] for name, labels in found if name == "moorage_requests_total"}
    assert routes <= {"unknown", "v1/chat/completions", "chat/completions"} | {
        route for route in routes if route.startswith("/") and len(route) < 40
    }
    assert len(found) - before < 900


def test_what_is_counted_is_what_happened(gateway: GatewayProcess) -> None:
    before = series(gateway)
    made = init(gateway)
    path = f"{made['path']}/chat/completions"
    for seed in range(4):
        assert gateway.post(path, chat(seed=seed, stream=seed % 2 == 0)).status_code == 200
    gateway.stub.stub.pace_s = 0.1
    with send_and_leave(gateway, path, chat(stream=True)) as left:
        assert left.recv(1000).startswith(b"HTTP/1.1 200")
    gateway.stub.stub.pace_s = 0
    wait_until(lambda: series(gateway)["moorage_calls_in_flight", ()] == 0)
    after = series(gateway)

    def grew(name: str, **labels: str) -> float:
        return one(after, name, **labels) - one(before, name, **labels)

    undelivered = grew("moorage_calls_undelivered_total")
    assert undelivered in (0, 1)
    assert grew("moorage_requests_total", route="chat/completions", status="200") == 4
    assert grew("moorage_requests_total", route="chat/completions", status="499") == 1
    assert grew("moorage_request_seconds_count", route="chat/completions") == 5
    assert grew("moorage_calls_total") == 4 + undelivered
    assert grew("moorage_tokens_total", kind="prompt") == 12 * (4 + undelivered)
    assert 24 <= grew("moorage_tokens_total", kind="completion") <= 30
    assert grew("moorage_upstream_requests_total", status="200") == 5
    assert grew("moorage_upstream_request_seconds_count", until="head") == 3
    assert grew("moorage_upstream_request_seconds_count", until="whole") == 2
    assert grew("moorage_store_batch_writes_sum") >= 5
    assert grew("moorage_store_commit_seconds_count") == grew("moorage_store_batch_writes_count")


def test_an_engine_that_goes_and_comes_is_counted(gateway: GatewayProcess) -> None:
    before = series(gateway)
    gateway.stub.spoil(Fault("status", status=503))
    assert gateway.post("/v1/chat/completions", chat()).status_code == 200
    gateway.stub.vanish()
    wait_until(lambda: one(series(gateway), "moorage_upstream_up") == 0)
    gateway.stub.come_back()
    wait_until(lambda: one(series(gateway), "moorage_upstream_up") == 1)
    after = series(gateway)
    for name, labels in (
        ("moorage_upstream_health_changes_total", {"to": "down"}),
        ("moorage_upstream_health_changes_total", {"to": "up"}),
        ("moorage_upstream_retries_total", {}),
        ("moorage_upstream_requests_total", {"status": "503"}),
    ):
        assert one(after, name, **labels) == one(before, name, **labels) + 1, name


def test_a_store_that_is_away_is_counted_and_metrics_are_told_still(gateway: GatewayProcess) -> None:
    path, away = f"{init(gateway)['path']}/chat/completions", gateway.db.with_suffix(".away")
    before = one(series(gateway), "moorage_store_faults_total")
    gateway.db.rename(away)
    assert gateway.post(path, chat()).status_code == 503
    found = series(gateway)
    away.rename(gateway.db)
    assert one(found, "moorage_store_faults_total") > before
    wait_until(lambda: gateway.post(path, chat()).status_code == 200)


def test_every_worker_is_told_whichever_is_asked(tmp_path: Path) -> None:
    with running_gateway(tmp_path, "--workers", "2") as gateway:
        asked = 0
        while len({dict(labels)["worker"] for name, labels in series(gateway) if name == "moorage_calls_total"}) < 2:
            gateway.http.close()
            assert gateway.post(f"{init(gateway)['path']}/chat/completions", chat()).status_code == 200
            asked += 1
        for _ in range(4):
            gateway.http.close()
            found = series(gateway)
            assert one(found, "moorage_calls_total") == asked
            assert one(found, "moorage_workers") == 2
            assert one(found, "moorage_build_info") == 2
            assert len([1 for name, _ in found if name == "moorage_store_bytes"]) == 1
