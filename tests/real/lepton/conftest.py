"""A Lepton workspace for each test, in either family of the API, and what tests of it share."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from moorage.launch.entry import Entry
from moorage.launch.platforms.base import Submission
from moorage.launch.platforms.lepton.platform import Lepton
from tests.contract.platform_contract import SERVE, eventually, ignore_progress, make_submission
from tests.real.parts.absence import PartMissing, require_real
from tests.real.parts.lepton_server import LeptonServer, lepton_server

KEY = "endpoint-key-0123456789"
SHAPE = {"resource_shape": "gpu.h100-sxm"}


def open_workspace(folder: Path, *, new_family: bool, open_door: bool = False) -> Iterator[LeptonServer]:
    folder.mkdir(exist_ok=True)
    try:
        with lepton_server(folder, new_family=new_family, open_door=open_door) as server:
            yield server
    except PartMissing as missing:
        require_real(str(missing))


@pytest.fixture(params=[False, True], ids=["deployments", "endpoints"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LeptonServer]:
    """In either family of the API."""
    yield from open_workspace(tmp_path / "workspace", new_family=request.param)


@pytest.fixture
def environ(workspace: LeptonServer, tmp_path: Path) -> dict[str, str]:
    return {
        **workspace.environ(),
        "MOORAGE_STATE_FILE": str(tmp_path / "state.json"),
        "MOORAGE_LEPTON_TOKEN": KEY,
    }


@pytest.fixture
def lepton(environ: dict[str, str]) -> Lepton:
    return Lepton(environ)


def launch(lepton: Lepton, submission: Submission) -> Entry:
    """Preflight and submit; the entry as it is recorded."""
    known = lepton.preflight(submission, pull="never", report=ignore_progress)
    submission = submission._replace(label=submission.label | known)
    lepton.submit(submission)
    return submission.label


def submission_of(*command: str, image: str = "registry.example/server:1", **changes: Any) -> Submission:
    """As the use case makes it: without a port of this machine, and with an address that nobody knows yet."""
    options = SHAPE | changes.pop("options", {})
    made = make_submission("lepton", image, command[0] if command else SERVE, port=None, options=options, **changes)
    return made._replace(label=made.label | {"host_url": None, "host_port": None})


def addressed(platform: Lepton, entry: Entry) -> Entry:
    """The entry with the address that the platform tells, and its port, which tests of the contract look for."""
    found: dict[str, object] = {}

    def told() -> bool:
        life = platform.status([entry])[entry["job_id"]]
        found.update(life.fields)
        return bool(found) or life.state == "exited"

    eventually(told)
    url = str(found.get("host_url") or "")
    return entry | {"host_url": url, "host_port": urlsplit(url).port if url else None}


def get(url: str, authorization: str) -> int:
    """The status that a GET with this header gets."""
    headers = {"Authorization": authorization} if authorization else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as refused:
        return refused.code
