"""The contract of every platform in a real cluster, by tunnels through the API server."""

from __future__ import annotations

from typing import Any

import pytest

from moorage.launch.platforms.base import Submission
from moorage.launch.platforms.kubernetes.platform import Kubernetes
from tests.contract.platform_contract import SERVE, Make, PlatformContract
from tests.real.kubernetes import services
from tests.real.kubernetes.services import IMAGE

pytestmark = pytest.mark.kubernetes


class TestKubernetes(PlatformContract):
    stop_within_s = 60.0

    @pytest.fixture
    def platform(self, environ: dict[str, str]) -> Kubernetes:
        return Kubernetes(environ)

    @pytest.fixture
    def image(self) -> str:
        return IMAGE

    @pytest.fixture
    def make(self) -> Make:
        def make(command: str = SERVE, **changes: Any) -> Submission:
            return services.make(command, **changes)

        return make
