"""What becomes of models that are DELETED when their time is over, as users and watchers see it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.contract.gateway_process import wait_until
from tests.contract.serving_process import MODELS, running_api
from tests.contract.test_serving_watch import Watch


def test_after_its_time_a_deleted_model_is_404_and_nothing_else_has_changed(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("serving: {keep_deleted_s: 2}\n")
    with running_api(tmp_path, "--config", str(tmp_path / "config.yaml")) as api:
        alice = api.user("alice")
        stays, goes = alice.declare("stays"), alice.declare("goes")
        for key in (stays, goes):
            alice.settled(key, "RUNNING")
        early = Watch(alice)
        wait_until(lambda: bool(early.ids))
        early.break_off()
        through = Watch(alice)
        wait_until(lambda: bool(through.ids))
        before = alice.detail(stays)
        alice.delete(f"{MODELS}/{goes}")
        path = f"{MODELS}/{goes}"
        through.until(goes, "DELETED")
        wait_until(lambda: alice.get(path).status_code == 404)
        assert alice.get(path).json()["code"] == "not_found"
        for below in ("/events", "/revisions", "/logs", "?watch=1"):
            assert alice.get(path + below).status_code == 404
        assert alice.delete(path).status_code == 404
        assert alice.detail(stays) == before
        assert [one["model_key"] for one in alice.get(MODELS).json()["items"]] == [stays]
        # Nobody can tell any more what this one has missed, so it is told everything.
        again = Watch(alice, after=early.ids[-1])
        again.until(stays, "RUNNING")
        assert again.events[0][0] == "ADDED" and again.states(goes) == []
        # This one has missed nothing.
        late = Watch(alice, after=through.ids[-1])
        third = alice.declare("goes")
        for watch in (through, again, late):
            watch.until(third, "RUNNING")
        assert late.states(stays) == []
        assert third != goes
        told = [json.loads(line) for line in api.said if '"purged"' in line]
        assert [(one["models"], one["level"]) for one in told] == [(1, "info")]
