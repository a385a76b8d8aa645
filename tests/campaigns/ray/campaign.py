"""Changes of declared models on a real Ray Serve, one after the other, while all of them are asked all the time.

First the backend keeps its contract with models on real engines. Then each round changes one model or breaks
something: what was not touched answers every request and keeps its processes, what was touched ends as it was declared.
In one round of three the control plane is killed in the middle of it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from moorage.catalog.engine_python import find_engine_python
from tests.campaigns.findings import Findings
from tests.campaigns.telling import Watch, unwatched
from tests.contract.backend_contract import BackendContract
from tests.contract.serving_process import MODELS
from tests.real.ray.cluster_rig import ClusterRig
from tests.real.ray.load import Load
from tests.real.ray.plane import ServingPlane, eventually, lives, pids, running_plane

__all__ = ["run_ray"]

MOST_MODELS = 3
MOST_REPLICAS = 2
LENGTHS = (512, 768, 1024, 1536, 2048)
"""What `max_model_len` is changed to."""
MIDDLE_S = 12.0
"""A control plane is killed at some time within, after it was told of a change."""
CLEAR = ("502 ", "503 ", "404 ")
"""What a request may be answered while its model's processes are gone, and when it is deleted."""


def run_ray(folder: Path, *, number: int, seed: int, nano: Path, watch: Watch = unwatched) -> Findings:
    """Raises RuntimeError on a machine without the environment of Ray."""
    python = find_engine_python("ray", os.environ)
    if python is None:
        raise RuntimeError("there is no environment of Ray on this machine: moor engine ray --install")
    findings = watch(Findings(f"{number} changes of models on Ray Serve", seed))
    begun = time.monotonic()
    try:
        with running_plane(folder, nano, python) as plane:
            trial = _Trial(plane, random.Random(seed), findings)
            trial.begin(nano)
            for _ in range(number):
                trial.round()
            trial.end()
    except (AssertionError, pytest.fail.Exception):
        findings.fault(f"it ended early: {traceback.format_exc()[-2000:]}")
    findings.count("seconds", round(time.monotonic() - begun))
    return findings


@dataclass
class _Declared:
    """A model as it should be."""

    key: str
    replicas: int = 1
    length: int = LENGTHS[-1]


class _Trial:
    """`models` by their suffixes; what is in it should be so whenever a round ends."""

    def __init__(self, plane: ServingPlane, draw: random.Random, findings: Findings) -> None:
        self._plane = plane
        self._draw = draw
        self._findings = findings
        self._models: dict[str, _Declared] = {}
        self._made = 0

    def begin(self, nano: Path) -> None:
        """The backend's contract with whole models, beside one of the control plane's."""
        suffix = self._new()
        key = self._models[suffix].key
        plane = self._plane
        eventually(lambda: bool(plane.alice.detail(key)["serve_status"].get("deployments")))
        rig = ClusterRig(plane.place(), nano, whole=True)
        BackendContract().test_an_application_comes_scales_and_goes_while_others_stay(rig)
        self._findings.count("contracts kept with models on engines")
        self._as_declared(suffix)

    def round(self) -> None:
        """One change; the faults say which, and of which model."""
        change = self._draw.choice(self._possible())
        touched = "" if change in (self._add, self._kill_ray) else self._draw.choice(sorted(self._models))
        what = f"{change.__name__.strip('_')} {touched}".strip()
        before = {suffix: pids(self._plane.alice.detail(one.key)) for suffix, one in self._models.items()}
        with contextlib.ExitStack() as loads:
            asked = {suffix: loads.enter_context(self._load(suffix)) for suffix in before}
            change(touched)
            if change != self._kill_ray and self._draw.random() < 1 / 3:
                self._kill_the_control_plane()
            for suffix in self._models:
                self._as_declared(suffix)
            eventually(lambda: len(self._plane.applications()) == len(self._models))
        self._findings.count(change.__name__.strip("_"))
        for suffix, load in asked.items():
            spared = change != self._kill_ray and suffix != touched
            self._judge(f"{what}, of {suffix}", load, may_fail=not spared and change in self._breaking())
            if spared:
                same = before[suffix] == pids(self._plane.alice.detail(self._models[suffix].key))
                self._findings.check(same, f"{what}: {suffix} has other processes than before")

    def end(self) -> None:
        """All are deleted, and all their processes end."""
        of_them = [pid for one in self._models.values() for pid in pids(self._plane.alice.detail(one.key))]
        for suffix in sorted(self._models):
            self._gone(suffix)
        eventually(lambda: not self._plane.applications())
        eventually(lambda: not any(lives(pid) for pid in of_them))

    # ---- changes: each says in `models` what should be ------------------------------------------------------------

    def _possible(self) -> list[Callable[[str], None]]:
        changes = [self._change, self._spoil, self._scale, self._scale, self._kill_a_replica, self._kill_ray]
        if len(self._models) < MOST_MODELS:
            changes += [self._add, self._add]
        if len(self._models) > 1:
            changes.append(self._remove)
        return changes

    def _breaking(self) -> tuple[Callable[[str], None], ...]:
        """Those that a model's requests may notice."""
        return (self._kill_a_replica, self._kill_ray, self._remove)

    def _add(self, _: str) -> None:
        self._new()

    def _remove(self, suffix: str) -> None:
        self._gone(suffix)

    def _scale(self, suffix: str) -> None:
        one = self._models[suffix]
        one.replicas = MOST_REPLICAS if one.replicas == 1 else 1
        self._patch(suffix, num_replicas=one.replicas)

    def _change(self, suffix: str) -> None:
        one = self._models[suffix]
        one.length = self._draw.choice([length for length in LENGTHS if length != one.length])
        self._patch(suffix, engine_kwargs={"max_model_len": one.length})

    def _spoil(self, suffix: str) -> None:
        """A bad change, which is rolled back, and taken back."""
        one = self._models[suffix]
        before = pids(self._plane.alice.detail(one.key))
        self._patch(suffix, engine_kwargs={"max_model_len": 1 << 30})
        failed = self._plane.settled(one.key, "FAILED")["model"]
        reasons = [one["reason"] for one in failed["conditions"] if one["type"] == "Ready"]
        self._findings.check(reasons == ["RolledBack"], f"spoil {suffix}: Ready is {reasons}")
        self._patch(suffix, engine_kwargs={"max_model_len": one.length})
        again = pids(self._plane.settled(one.key, "RUNNING"))
        self._findings.check(again == before, f"spoil {suffix}: it has other processes than before")

    def _kill_a_replica(self, suffix: str) -> None:
        """Ray puts another in its place."""
        key = self._models[suffix].key
        victim = self._draw.choice(sorted(pids(self._plane.alice.detail(key))))
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: victim not in pids(self._plane.alice.detail(key)))

    def _kill_ray(self, _: str) -> None:
        record = self._plane.record()
        old = [pid for one in self._models.values() for pid in pids(self._plane.alice.detail(one.key))]
        os.kill(record["pid"], signal.SIGKILL)
        eventually(lambda: self._plane.record()["cluster_id"] != record["cluster_id"])
        self._findings.check(not any(lives(pid) for pid in old), "processes of the cluster that was killed live on")

    def _kill_the_control_plane(self) -> None:
        time.sleep(self._draw.uniform(0, MIDDLE_S))
        self._plane.crash_and_return()
        self._findings.count("kills of the control plane in the middle of it")

    # ---- what they are made of ------------------------------------------------------------------------------------

    def _new(self) -> str:
        self._made += 1
        suffix = f"m{self._made}"
        kwargs = {"max_model_len": LENGTHS[-1]}
        self._models[suffix] = _Declared(self._plane.declare(suffix, num_replicas=1, engine_kwargs=kwargs))
        return suffix

    def _gone(self, suffix: str) -> None:
        key = self._models.pop(suffix).key
        reply = self._plane.alice.delete(f"{MODELS}/{key}")
        assert reply.ok, reply.text
        eventually(lambda: self._plane.alice.detail(key)["model"]["state"] == "DELETED")

    def _patch(self, suffix: str, **change: object) -> None:
        reply = self._plane.alice.patch(f"{MODELS}/{self._models[suffix].key}", change)
        assert reply.status_code == 200, reply.text

    def _as_declared(self, suffix: str) -> None:
        """Wait until it is, and ask it."""
        one = self._models[suffix]

        def so() -> bool:
            detail = self._plane.alice.detail(one.key)
            model, status = detail["model"], detail["serve_status"]
            settled = model["state"] == "RUNNING" and model["observed_generation"] == model["generation"]
            return settled and status.get("app_status") == "RUNNING" and len(pids(detail)) == one.replicas + 1

        eventually(so)
        body = {"model": f"alice/{suffix}", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        gateway = self._plane.gateway
        eventually(lambda: gateway.post("/v1/chat/completions", body).status_code == 200)

    def _load(self, suffix: str) -> Load:
        return Load(f"{self._plane.gateway.url}/v1", f"alice/{suffix}", pause_s=0.3)

    def _judge(self, what: str, load: Load, *, may_fail: bool) -> None:
        self._findings.count("requests answered", len(load.good_s))
        self._findings.count("requests refused while their model's processes were gone", len(load.failed))
        bad = [one for one in load.failed if not one.startswith(CLEAR)] if may_fail else load.failed
        self._findings.check(not bad, f"{what}: {len(bad)} requests failed, the first: {bad[:1]}")
