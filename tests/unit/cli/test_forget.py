"""An entry of a platform that this version does not know can still be taken away."""

from __future__ import annotations

import json

import pytest


@pytest.mark.parametrize("platform", ["modal", None, 3])
def test_a_service_we_cannot_stop_is_not_lost_silently_and_can_be_forgotten(moor, state_file, platform):
    entry = {"job_id": "far", "network_arch": "vllm", "host_url": "http://localhost:1", "platform": platform}
    state_file.write_text(json.dumps({"far": entry, "latest": "far"}))
    assert moor("list", "--json").out["data"]["services"][0]["state"] == "unknown"
    refused = moor("stop", "far", "--json")
    assert (refused.rc, refused.out["error"]["next"]) == (2, ["moor prune --forget far"])
    assert moor("prune", "--json").out["data"] == {"pruned": []}
    assert moor("prune", "--forget", "far", "--dry-run", "--json").out["data"] == {"pruned": ["far"]}
    assert "far" in json.loads(state_file.read_text())
    assert moor("prune", "--forget", "far", "--json").out["data"] == {"pruned": ["far"]}
    assert json.loads(state_file.read_text()) == {}
    assert moor("prune", "--forget", "far", "--json").rc == 3
