"""What a service's entry really holds, against what the references and documents say of it."""

from __future__ import annotations

import pytest

from moorage.catalog.catalog import load_catalog
from tests.bundle.checkout import ROOT
from tests.conftest import Moor

NOT_KEPT = {"reason"}
"""Told with an entry, and not written into the registry."""
UNTIL_IT_ENDS = {"stop_requested_at"}
"""Written when a stop begins, and gone with the entry."""


@pytest.mark.usefixtures("tao_programs")
def test_an_entry_of_a_local_process_has_the_fields_that_are_documented(moor: Moor) -> None:
    written = set(load_catalog(ROOT).service.service_registry.written_by_platform["local-process"])
    flags = (
        "--network-arch",
        "cosmos-rl",
        "--model-path",
        "hf_model://org/model",
        "--ttl",
        "1h",
        "--idle-timeout",
        "1h",
    )
    accepted = moor("start", *flags, "--no-wait", "--json")
    assert accepted.rc == 0, accepted
    ready = moor("wait", accepted.out["data"]["job_id"], "--timeout", "60", "--json").out["data"]
    seen = set(moor("status", "--json").out["data"])
    assert seen - NOT_KEPT == set(ready)
    assert written - UNTIL_IT_ENDS - set(ready) <= {"starter"}  # there while it starts
    assert set(ready) <= written


@pytest.mark.docker
def test_an_entry_of_a_container_has_the_fields_that_are_documented(moor: Moor, tao_image: object) -> None:
    written = set(load_catalog(ROOT).service.service_registry.written_by_platform["local-docker"])
    flags = ("--network-arch", "tao-dataservices", "--model-path", "/models/m", "--ttl", "1h", "--idle-timeout", "1h")
    started = moor("start", "--platform", "local-docker", "--gpus", "none", "--pull", "never", *flags, "--json")
    assert started.rc == 0, started
    entry = set(started.out["data"])
    assert entry <= written
    assert written - entry <= UNTIL_IT_ENDS | {"starter"}
