"""The log of a container that the cluster starts again and again, as a cluster that tells of it late gives it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from moorage.errors import NotFoundError, PlatformUnreachable, PreflightError, UsageError
from moorage.launch.platforms.kubernetes import logs
from moorage.launch.platforms.kubernetes.logs import follow_log, read_log

ENTRY = {"job_id": "j", "platform_job_id": "moorage-j", "access": "port-forward"}
LABELS = {"moorage.job_id": "j"}
WORKLOAD = {"metadata": {"uid": "w", "labels": LABELS}, "spec": {}}
LOST = b"unable to retrieve container logs for docker://afbf"
THROWN_AWAY = UsageError("previous terminated container not found")

RUNS = {"state": {"running": {}}}
DIED = {"state": {"terminated": {"exitCode": 1, "containerID": "docker://x"}}}
AGAIN = {"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}, "restartCount": 1}
COMING = {"state": {"waiting": {"reason": "ContainerCreating"}}}


class Answer(NamedTuple):
    body: dict[str, Any]
    date: str = "Sat, 21 Nov 2026 12:00:00 GMT"


class Late:
    """A cluster that answers what it is told to, in turn; the last of each again and again.

    `pods`: the container's status at each look, None for no pod. `logs`: what each reading gives.
    """

    def __init__(self, pods: list[dict[str, Any] | None], *logs: bytes | Exception) -> None:
        self.pods, self.logs = pods, list(logs)
        self.asked: list[tuple[bool, bool]] = []
        """(whether the run before was asked for, whether it was followed), of each reading."""

    def items(self, namespace: str, kind: str, **query: Any) -> list[dict[str, Any]]:
        return [WORKLOAD] if kind == "deployments" else []

    def get(self, path: str, **query: Any) -> Answer:
        status = self.pods.pop(0) if len(self.pods) > 1 else self.pods[0]
        metadata = {"name": "p", "uid": "u", "labels": LABELS, "creationTimestamp": "2026-11-21T11:00:00Z"}
        pod = {"metadata": metadata, "spec": {}, "status": {"containerStatuses": [status]}}
        return Answer({"items": [] if status is None else [pod]})

    def stream(self, path: str, *, follow: bool, previous: str | None, tailLines: int | None) -> Iterator[bytes]:
        self.asked.append((previous == "true", follow))
        found = self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]
        if isinstance(found, Exception):
            raise found
        yield found


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOOK_EVERY_S", 0.0)


@pytest.mark.parametrize(
    ("pods", "answers", "lines"),
    [
        ([RUNS], [b"one\ntwo"], ["one", "two"]),
        ([None], [b"of nobody"], []),
        ([COMING], [b"of nobody"], []),
        ([DIED], [b"one\n", b"one\n"], ["one"]),
        ([DIED], [b"", b"one\n"], ["one"]),  # it is started again, and the cluster has not told
        ([DIED], [b"o", b"one\n"], ["one"]),
        ([DIED, AGAIN], [THROWN_AWAY, b"one\n"], ["one"]),
        ([AGAIN], [LOST, b"one\n"], ["one"]),
        ([AGAIN], [THROWN_AWAY], []),
        ([AGAIN], [NotFoundError("pods p not found")], []),
        ([DIED, None], [NotFoundError("pods p not found")], []),  # stopped meanwhile
        ([RUNS], [PreflightError("being terminated", code="namespace_missing")], []),
        ([RUNS, AGAIN], [b"half of it\n", b"one\n"], ["one"]),  # it died while it was read
        ([DIED], [b""], []),  # it wrote nothing
    ],
)
def test_what_is_read(pods: list[Any], answers: list[bytes | Exception], lines: list[str]) -> None:
    assert list(read_log(Late(list(pods), *answers), "n", ENTRY, tail=None)) == lines  # type: ignore[arg-type]


def test_the_run_that_ended_is_read_and_not_the_next_one() -> None:
    cluster = Late([AGAIN], b"one\n")
    assert list(read_log(cluster, "n", ENTRY, tail=5)) == ["one"]  # type: ignore[arg-type]
    assert set(cluster.asked) == {(True, False)}


def test_a_cluster_that_does_not_answer_is_told() -> None:
    with pytest.raises(PlatformUnreachable):
        list(read_log(Late([RUNS], PlatformUnreachable("silent")), "n", ENTRY, tail=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pods", "answers", "lines", "asked"),
    [
        ([COMING, RUNS, DIED], [b"one\ntwo\n"], ["one", "two"], [(False, True)]),
        ([RUNS, RUNS, DIED], [THROWN_AWAY, b"one\n"], ["one"], [(False, True)] * 2),
        ([DIED], [b"", b"one\n"], ["one"], [(False, False)] * 3),  # over before it was looked at
        ([RUNS, None], [b"one\n"], ["one"], [(False, True)]),
    ],
)
def test_what_is_followed(
    pods: list[Any], answers: list[Any], lines: list[str], asked: list[tuple[bool, bool]]
) -> None:
    cluster = Late(list(pods), *answers)
    if pods[-1] is None:
        cluster.items = lambda namespace, kind, **query: [WORKLOAD] if cluster.pods[0] else []  # type: ignore[method-assign]
    assert list(follow_log(cluster, "n", ENTRY, tail=None)) == lines  # type: ignore[arg-type]
    assert cluster.asked == asked
