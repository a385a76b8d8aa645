from __future__ import annotations
import os, pytest
from moorage.launch.platforms.local_docker import LocalDocker
from platform_contract import PlatformContract
class TestLocalDocker(PlatformContract):
    @pytest.fixture
    def platform(self):
        return LocalDocker(os.environ)
    @pytest.fixture
    def image(self):
        return "plat-py:deb"
