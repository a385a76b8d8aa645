"""The log of a container that the cluster starts again and again, as a cluster that tells of it late gives it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest

from moorage.errors import NotFoundError, PlatformUnreachable, PreflightError, UsageError
from moorage.launch.platforms.kubernetes import logs
from moorage.launch.platforms.kubernetes.logs import follow_log, read_log

ENTRY = {"job_id": "j", "platform_job_id": "moorage-j", "access": "port-forward"}
LABELS = {"moorage.job_id": "j"}
WORKLOAD = {"metadata": {"uid": "w", "labels": LABELS}, "spec": {}}
LOST = b"unable to retrieve container logs for docker://afbf"
NO_FILE = b'failed to try resolving symlinks in path "/var/log/pods/n_p_u/server/0.log": no such file or directory'
NONE = UsageError("previous terminated container not found")
GONE = NotFoundError("pods p not found")
Log = bytes | Exception

RUNS = {"state": {"running": {}}}
DIED = {"state": {"terminated": {"exitCode": 1, "containerID": "docker://x"}}}
AGAIN = {"state": {"running": {}}, "lastState": {"terminated": {"exitCode": 1}}, "restartCount": 1}
COMING = {"state": {"waiting": {"reason": "ContainerCreating"}}}


class Answer(NamedTuple):
    body: dict[str, Any]
    date: str = "Sat, 21 Nov 2026 12:00:00 GMT"


class Late:
    """A cluster that answers what it is told to, in turn; the last of each again and again.

    `pods`: the container's status at each look, None for no pod. `present` and `before`: what each reading of the log
    gives, of the run that the node counts as the present one and of the one before it.
    """

    def __init__(self, pods: Sequence[Any], present: Sequence[Log] = (b"",), before: Sequence[Log] = (NONE,)) -> None:
        self.pods, self.present, self.before = list(pods), list(present), list(before)
        self.asked: list[str] = []

    def items(self, namespace: str, kind: str, **query: Any) -> list[dict[str, Any]]:
        return [WORKLOAD] if kind == "deployments" and self.pods[0] is not None else []

    def get(self, path: str, **query: Any) -> Answer:
        status = turn(self.pods)
        metadata = {"name": "p", "uid": "u", "labels": LABELS, "creationTimestamp": "2026-11-21T11:00:00Z"}
        pod = {"metadata": metadata, "spec": {}, "status": {"containerStatuses": [status]}}
        return Answer({"items": [] if status is None else [pod]})

    def stream(self, path: str, *, follow: bool, previous: str | None, tailLines: int | None) -> Iterator[bytes]:
        self.asked.append("before" if previous else "followed" if follow else "present")
        found = turn(self.before if previous else self.present)
        if isinstance(found, Exception):
            raise found
        yield found


def turn(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOOK_EVERY_S", 0.0)


@pytest.mark.parametrize(
    ("pods", "present", "before", "lines"),
    [
        ([RUNS], [b"one\ntwo"], [NONE], ["one", "two"]),
        ([RUNS], [GONE, b"one"], [NONE], ["one"]),
        ([RUNS], [PreflightError("being terminated", code="namespace_missing")], [NONE], []),
        ([RUNS, AGAIN], [b"half of it\n", b"more"], [b"one\n"], ["one"]),  # it died while it was read
        ([None], [b"of nobody"], [b"of nobody"], []),
        ([COMING], [b"of nobody"], [b"of nobody"], []),
        ([DIED], [b"one\n"], [NONE], ["one"]),
        ([DIED], [b""], [NONE], []),  # it wrote nothing
        ([DIED], [b""], [NONE, b"one\n"], ["one"]),  # started again meanwhile, and the cluster has not told
        ([DIED], [b"half of the next"], [b"one\n"], ["one"]),
        ([AGAIN], [b"half of the next"], [b"one\n"], ["one"]),
        ([AGAIN], [b"one\n"], [LOST], ["one"]),  # the second has ended too, and the first is thrown away
        ([AGAIN], [LOST], [LOST, LOST, b"one\n"], ["one"]),
        ([DIED], [NO_FILE, b"one\n"], [NONE], ["one"]),
        ([DIED], [b'failed to open log file "mine"\n'], [NONE], ['failed to open log file "mine"']),  # its own words
        ([AGAIN], [NONE, NONE, b"one"], [NONE], ["one"]),
        ([AGAIN], [NONE], [NONE], []),
        ([DIED, None], [GONE], [GONE], []),  # stopped meanwhile
    ],
)
def test_what_is_read(pods: list[Any], present: list[Log], before: list[Log], lines: list[str]) -> None:
    assert list(read_log(Late(pods, present, before), "n", ENTRY, tail=None)) == lines  # type: ignore[arg-type]


def test_while_it_is_stopped_the_present_run_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving = {**WORKLOAD, "metadata": {**WORKLOAD["metadata"], "deletionTimestamp": "2026-11-21T12:00:00Z"}}
    cluster = Late([AGAIN], [b"now\n"], [b"then\n"])
    monkeypatch.setattr(cluster, "items", lambda _namespace, kind, **_query: [leaving] if kind == "deployments" else [])
    assert list(read_log(cluster, "n", ENTRY, tail=5)) == ["now"]  # type: ignore[arg-type]


def test_a_cluster_that_does_not_answer_is_told() -> None:
    with pytest.raises(PlatformUnreachable):
        list(read_log(Late([RUNS], [PlatformUnreachable("silent")]), "n", ENTRY, tail=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pods", "present", "before", "lines", "asked"),
    [
        ([COMING, RUNS, DIED], [b"one\ntwo\n"], [NONE], ["one", "two"], ["followed"]),
        ([RUNS, RUNS, DIED], [NONE, b"one\n"], [NONE], ["one"], ["followed"] * 2),
        ([DIED], [b""], [b"one\n"], ["one"], ["before"]),  # over before it was looked at
        ([RUNS, None], [b"one\n"], [NONE], ["one"], ["followed"]),
    ],
)
def test_what_is_followed(
    pods: list[Any], present: list[Log], before: list[Log], lines: list[str], asked: list[str]
) -> None:
    cluster = Late(pods, present, before)
    assert list(follow_log(cluster, "n", ENTRY, tail=None)) == lines  # type: ignore[arg-type]
    assert cluster.asked == asked
