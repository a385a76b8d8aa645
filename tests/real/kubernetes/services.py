"""Services in the cluster: started, looked at, stopped."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moorage.launch.entry import Entry
from moorage.launch.platforms.base import Submission
from moorage.launch.platforms.kubernetes.platform import Kubernetes
from moorage.launch.platforms.life import Life
from tests.contract.platform_contract import SERVE, Start, ignore_progress, make_submission

IMAGE = "moorage-test/tao:1"


def make(command: str = SERVE, **changes: Any) -> Submission:
    """A submission with a tunnel to it, unless `options` say another access."""
    # The cluster asks `/` all the time: a server that tells of it would say what no test expects.
    quiet = command.replace('print("asked"', 'self.path == "/" or print("asked"')
    options = {"access": "port-forward"} | changes.pop("options", {})
    return make_submission("kubernetes", changes.pop("image", IMAGE), quiet, options=options, **changes)


def without_port(access: str) -> Submission:
    """A submission whose address the cluster chooses."""
    submission = make(options={"access": access}, port=None)
    submission.label["host_url"] = submission.label["host_port"] = None
    return submission


def submit(platform: Kubernetes, submission: Submission) -> Entry:
    """Preflight and submit, without anything that would stop it. Only images of a registry are pulled."""
    pull = "missing" if submission.image.startswith("127.0.0.1:") else "never"
    known = platform.preflight(submission, pull=pull, report=ignore_progress)
    submission = submission._replace(label=submission.label | known)
    return submission.label | platform.submit(submission)


def started_services(platform: Kubernetes) -> Iterator[Start]:
    """What was started is stopped in the end, all of it at once."""
    started: list[Entry] = []

    def start(submission: Submission) -> Entry:
        started.append(submission.label | submission.options)
        started[-1] = submit(platform, submission)
        return started[-1]

    yield start
    if started:
        with ThreadPoolExecutor(len(started)) as pool:
            list(pool.map(platform.stop, started))


def life_of(platform: Kubernetes, entry: Entry) -> Life:
    return platform.status([entry])[entry["job_id"]]
