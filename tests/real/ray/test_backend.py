"""The backend `ray_serve` keeps its contract on a real cluster that another control plane uses too.

Its applications have no engines: `python -m tests.campaigns ray` has the same story with models on real ones.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from moorage.serving.backends.contract import BackendUnreachable, Wanted
from tests.contract.backend_contract import BackendContract, Rig
from tests.real.ray.cluster_rig import ClusterRig, Place
from tests.real.ray.load import Load
from tests.real.ray.plane import ServingPlane, eventually

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def rig(plane: ServingPlane, first: str, nano: Path) -> ClusterRig:
    """The control plane's cluster, while it loads a model of its own: Ray has built it, and need not do so again."""
    eventually(lambda: bool(plane.alice.detail(first)["serve_status"].get("deployments")))
    return ClusterRig(plane.place(), nano)


class TestRayServeBackend(BackendContract):
    def _scales_beside_a_new_one(self, rig: Rig, grown: Wanted, other: Wanted) -> None:
        """As the contract has it, with requests all the time that may not notice."""
        assert isinstance(rig, ClusterRig)
        begun = time.monotonic()
        with Load(*rig.endpoint(grown.app)) as load:
            super()._scales_beside_a_new_one(rig, grown, other)
        sys.stdout.write(f"one more replica and one more model in {time.monotonic() - begun:.0f} s: {load.figures()}\n")
        assert load.good_s and not load.failed, load.failed


def test_a_token_that_ray_does_not_know_is_no_reason_to_conclude_anything(rig: ClusterRig, nano: Path) -> None:
    stranger = ClusterRig(Place(rig.place.address, "0" * 64), nano)
    with pytest.raises(BackendUnreachable, match="does not accept our token"):
        stranger.backend.observe()
