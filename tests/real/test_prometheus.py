"""A real Prometheus scrapes a real gateway with the rules that are shipped; its alerts fire, and resolve."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.contract.gateway_calls import chat, init
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until
from tests.real.parts.absence import PartMissing, require_real
from tests.real.parts.prometheus import Prometheus, promtool, running_prometheus

DEPLOY = ROOT / "deploy" / "prometheus"
ALERTS: dict[str, Any] = yaml.safe_load((DEPLOY / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]


def checked(*words: str | Path, stdin: str | None = None) -> None:
    try:
        done = promtool(*words, stdin=stdin)
    except PartMissing as missing:
        require_real(str(missing))
    assert done.returncode == 0, done.stdout + done.stderr


def hasty(port: int, folder: Path) -> dict[str, Any]:
    """What is shipped, with seconds for minutes."""
    config = yaml.safe_load((DEPLOY / "scrape.yaml").read_text())
    config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
    [job] = config["scrape_configs"]
    job["scrape_timeout"] = "500ms"
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    alerts = copy.deepcopy(ALERTS)
    for group in alerts["groups"]:
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = "1s"
    (folder / "alerts.yaml").write_text(yaml.safe_dump(alerts))
    return dict(config)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(gateway: GatewayProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has scraped the gateway."""
    folder = tmp_path_factory.mktemp("prometheus")
    try:
        with running_prometheus(folder, hasty(gateway.port, folder)) as running:
            wait_until(lambda: running.query('up{job="moorage"}') != {})
            yield running
    except PartMissing as missing:
        require_real(str(missing))


def test_what_is_shipped_is_well_formed() -> None:
    checked("check", "config", DEPLOY / "scrape.yaml")
    checked("check", "rules", "--lint=all", "--lint-fatal", DEPLOY / "alerts.yaml")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_is_told_is_well_formed(tmp_path: Path, workers: str) -> None:
    """`promtool check metrics`: names, units, help texts, types; with what clients, engines and trainers made of it."""
    with running_gateway(tmp_path, "--workers", workers) as gateway:
        made = init(gateway)
        for stream in (False, True):
            assert gateway.post(f"{made['path']}/chat/completions", chat(stream=stream)).status_code == 200
        gateway.get("/nowhere/at/all/ü")
        gateway.post("/weights", {"version": 3})
        gateway.post("/pause")
        told = gateway.get("/metrics")
    assert told.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    checked("check", "metrics", stdin=told.text)
    assert ('worker="1"' in told.text) is (workers == "2")


def test_a_scrape_has_what_was_counted(gateway: GatewayProcess, prometheus: Prometheus) -> None:
    made = init(gateway)
    for seed in range(3):
        assert gateway.post(f"{made['path']}/chat/completions", chat(seed=seed)).status_code == 200
    wait_until(lambda: sum(prometheus.query("moorage_calls_total").values()) == 3)
    assert sum(prometheus.query('moorage_tokens_total{kind="completion"}').values()) == 18
    upstream = gateway.stub.url.removesuffix("/v1")
    replies = prometheus.query(f'moorage_upstream_requests_total{{upstream="{upstream}",status="200"}}')
    assert list(replies.values()) == [3]
    assert prometheus.query("histogram_quantile(0.5, moorage_request_seconds_bucket)")


def test_an_alert_fires_when_an_engine_dies_and_resolves_when_it_is_back(
    gateway: GatewayProcess, prometheus: Prometheus
) -> None:
    assert prometheus.firing() == set()
    gateway.stub.vanish()
    wait_until(lambda: {"MoorageUpstreamDown", "MoorageNoUpstream"} <= prometheus.firing(), within_s=30)
    gateway.stub.come_back()
    wait_until(lambda: prometheus.firing() == set(), within_s=30)


def test_other_alerts_fire_too(gateway: GatewayProcess, prometheus: Prometheus, tmp_path: Path) -> None:
    """Paused; a store that is away; the gateway itself gone."""
    gateway.post("/pause")
    wait_until(lambda: "MooragePausedForLong" in prometheus.firing(), within_s=30)
    gateway.post("/resume")
    path, away = f"{init(gateway)['path']}/chat/completions", tmp_path / "away.db"
    gateway.db.rename(away)

    def told() -> bool:
        assert gateway.post(path, chat()).status_code == 503
        return {"MoorageStoreFaults", "MoorageErrors"} <= prometheus.firing()

    wait_until(told, within_s=30)
    gateway.kill()
    wait_until(lambda: "MoorageGatewayDown" in prometheus.firing(), within_s=30)


HERE = 'instance="g",job="moorage"'
LIVE = {
    f"up{{{HERE}}}": "1+0x60",
    f'moorage_upstream_up{{{HERE},upstream="e"}}': "1+0x60",
    f'moorage_upstream_health_changes_total{{{HERE},upstream="e",to="down"}}': "0+0x60",
    f'moorage_requests_total{{{HERE},route="chat/completions",status="200"}}': "0+60x60",
    f'moorage_requests_total{{{HERE},route="chat/completions",status="503"}}': "0+1x60",
    f'moorage_calls_total{{{HERE},verdict="root",reason=""}}': "0+60x60",
    f"moorage_store_faults_total{{{HERE}}}": "0+0x60",
    f'moorage_store_commit_seconds_bucket{{{HERE},le="0.1"}}': "0+60x60",
    f'moorage_store_commit_seconds_bucket{{{HERE},le="1.0"}}': "0+60x60",
    f'moorage_store_commit_seconds_bucket{{{HERE},le="+Inf"}}': "0+60x60",
    f"moorage_paused{{{HERE}}}": "0+0x60",
    f"moorage_store_disk_free_bytes{{{HERE}}}": "1e11+0x60",
    f"moorage_connections_refused_total{{{HERE}}}": "0+0x60",
    f'moorage_event_loop_lag_seconds_bucket{{{HERE},le="0.1"}}': "0+240x60",
    f'moorage_event_loop_lag_seconds_bucket{{{HERE},le="+Inf"}}': "0+240x60",
    f'moorage_pool_groups{{{HERE},channel="train",state="dropped"}}': "3+0x60",
    f'moorage_upstream_token_ids{{{HERE},upstream="e"}}': "1+0x60",
    f"moorage_build_info{{{HERE}}}": "1+0x60",
    f"moorage_workers{{{HERE}}}": "1+0x60",
}
"""An hour in which all is well, a value a minute."""

TROUBLE: dict[str, dict[str, str]] = {
    "MoorageGatewayDown": {f"up{{{HERE}}}": "0+0x60"},
    "MoorageWorkerMissing": {f"moorage_workers{{{HERE}}}": "2+0x60"},
    "MoorageUpstreamDown": {f'moorage_upstream_up{{{HERE},upstream="e"}}': "0+0x60"},
    "MoorageNoUpstream": {f'moorage_upstream_up{{{HERE},upstream="e"}}': "0+0x60"},
    "MoorageUpstreamFlapping": {f'moorage_upstream_health_changes_total{{{HERE},upstream="e",to="down"}}': "0+1x60"},
    "MoorageNoCapture": {f'moorage_calls_total{{{HERE},verdict="root",reason=""}}': "7+0x60"},
    "MoorageNoTokenIds": {f'moorage_upstream_token_ids{{{HERE},upstream="e"}}': "0+0x60"},
    "MoorageStoreFaults": {f"moorage_store_faults_total{{{HERE}}}": "0+1x60"},
    "MoorageCommitsSlow": {f'moorage_store_commit_seconds_bucket{{{HERE},le="0.1"}}': "0+30x60"},
    "MooragePausedForLong": {f"moorage_paused{{{HERE}}}": "1+0x60"},
    "MoorageErrors": {f'moorage_requests_total{{{HERE},route="chat/completions",status="503"}}': "0+10x60"},
    "MoorageDiskLow": {f"moorage_store_disk_free_bytes{{{HERE}}}": "4e9+0x60"},
    "MoorageBusy": {f"moorage_connections_refused_total{{{HERE}}}": "0+5x60"},
    "MoorageGroupsDropped": {f'moorage_pool_groups{{{HERE},channel="train",state="dropped"}}': "3+1x60"},
}


def test_every_alert_has_its_trouble() -> None:
    assert {rule["alert"] for rule in RULES} == set(TROUBLE)


def test_alerts_fire_in_trouble_and_not_in_peace(tmp_path: Path) -> None:
    """`promtool test rules`: each alert against an hour of its own trouble, and an hour of peace."""
    (tmp_path / "alerts.yaml").write_text((DEPLOY / "alerts.yaml").read_text())
    cases = [_case(LIVE, dict.fromkeys(TROUBLE, False))]
    cases += [_case({**LIVE, **trouble}, {name: True}) for name, trouble in TROUBLE.items()]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump({"rule_files": ["alerts.yaml"], "evaluation_interval": "1m", "tests": cases}))
    checked("test", "rules", file)


def _case(series: dict[str, str], wanted: dict[str, bool]) -> dict[str, Any]:
    """`promtool` compares labels and annotations too, so a firing alert is asked for by its series."""
    told = [{"series": name, "values": values} for name, values in series.items()]
    questions = [
        {
            "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
            "eval_time": "55m",
            "exp_samples": [{"labels": "{}", "value": 1 if fires else 0}],
        }
        for name, fires in wanted.items()
    ]
    return {"interval": "1m", "input_series": told, "promql_expr_test": questions}
