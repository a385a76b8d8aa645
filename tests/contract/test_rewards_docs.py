"""docs/rewards.md and docs/reasoning.md: what they show works, and is complete; `moor rewards list`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from moorage.engines.fleet.servers_file import endpoints_of
from moorage.engines.reasoning.config import EFFORT_TOKENS, ReasoningConfig
from moorage.gateway.turns.scoring import STATUSES
from moorage.rewards.configured import configure
from moorage.rewards.installed import OURS, installed
from moorage.rewards.sample import Sample
from tests.bundle.checkout import ROOT, codes, section, table_rows
from tests.contract.gateway_process import running_gateway

REWARDS = (ROOT / "docs/rewards.md").read_text(encoding="utf-8")
REASONING = (ROOT / "docs/reasoning.md").read_text(encoding="utf-8")


def fenced(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL)


def test_the_options_that_are_shown_can_be_given() -> None:
    [shown] = fenced(REWARDS, "yaml")
    found = configure(None, yaml.safe_load(shown), installed([]))
    assert [(one.name, one.target) for one in found] == [
        ("numeric", OURS["numeric"]),
        ("format", OURS["regex"]),
        ("judge", OURS["remote"]),
    ]
    assert found[2].env == ("JUDGE_KEY",)


def test_the_tables_are_complete() -> None:
    assert {code for row in table_rows(REWARDS.partition("## Options")[0]) for code in codes(row[0])} == set(OURS)
    told = {code: int(row[0]) for row in table_rows(section(REWARDS, "Ask")) for code in codes(row[1])}
    assert STATUSES.items() <= told.items()
    assert set(told) - set(STATUSES) == {"body_wrong", "reward_input", "reward_not_configured"}


def test_the_function_that_is_shown_works() -> None:
    [shown] = fenced(REWARDS, "python")
    names: dict[str, Any] = {"__name__": "shown"}
    sys.modules["shown"] = type(sys)("shown")  # dataclasses look their module up
    try:
        exec(shown, names)
    finally:
        del sys.modules["shown"]
    score = names["Brief"](words=2)(Sample(response="one two three four"))
    assert (score.reward, score.info) == (0.5, {"words": 4})


def test_the_request_that_is_shown_is_answered_so(tmp_path: Path) -> None:
    asked = re.findall(r"-d '(\{.*?\})'", REWARDS, re.DOTALL)
    shown = [json.loads(one) for one in fenced(REWARDS, "json")]
    with running_gateway(tmp_path, "--reward", "exact,numeric") as gateway:
        assert gateway.post("/compute_reward", json.loads(asked[0])).json() == shown[0]
        step = {"trajectory_uid": "rollout-1", "prompt_ids": [5], "response_ids": [8]}
        assert gateway.post("/submit_steps", {"steps": [step]}).status_code == 200
        assert gateway.post("/complete_trajectory/rollout-1", {"reward": 1}).status_code == 200
        assert gateway.post("/pool/rewards", json.loads(asked[1])).status_code == 200
        told = gateway.get("/pool/rewards?trajectory_uid=rollout-1").json()
        assert {**told, "versions": [{**one, "at": "…"} for one in told["versions"]]} == shown[1]


def test_the_servers_that_are_shown_can_be_given() -> None:
    [shown] = fenced(REASONING, "json")
    first, second = endpoints_of(json.loads(shown))
    assert (first.reasoning, second.reasoning) == (ReasoningConfig(effort="high"), ReasoningConfig(max_tokens=8000))
    [header] = [line for line in REASONING.splitlines() if line.startswith("| Effort ")]
    [row] = [line for line in REASONING.splitlines() if line.startswith("| Tokens ")]
    words = [[cell.strip() for cell in line.strip("|").split("|")][1:] for line in (header, row)]
    assert dict(zip(words[0], (int(one.replace(",", "")) for one in words[1]), strict=True)) == EFFORT_TOKENS


def test_what_is_installed_is_listed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "moorage.cli.main", "rewards", "list", "--json"],
        capture_output=True,
        cwd=ROOT,
        timeout=120,
        check=True,
    )
    rows = {row["name"]: row for row in json.loads(done.stdout)["data"]["rewards"]}
    assert set(OURS) <= set(rows)
    for name in OURS:
        assert rows[name]["fault"] is None
        assert rows[name]["summary"].endswith(".")
    [pattern] = [one for one in rows["regex"]["options"] if one["name"] == "pattern"]
    assert pattern == {"name": "pattern", "type": "str", "required": True, "default": None}
