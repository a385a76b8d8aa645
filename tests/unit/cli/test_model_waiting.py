"""Waiting for declared models: what is told, and how each end is an exit."""

from __future__ import annotations

import io
from typing import Any, cast

import pytest

from moorage.cli.models.waiting import await_deleted, await_settled
from moorage.cli.output import Output
from moorage.client.serving.client import ServingClient
from moorage.client.serving.values import Detail
from moorage.errors import ConflictError, FailedError, NotReadyError
from tests.unit.client.serving.made import detail


class Answers:
    """A client that gives each model's answers in turn, and the last one for ever."""

    def __init__(self, **answers: list[Detail]) -> None:
        self.left = answers

    def model(self, key: str) -> Detail:
        left = self.left[key]
        return left.pop(0) if len(left) > 1 else left[0]


def settle(timeout_s: float = 60.0, **answers: list[Detail]) -> tuple[list[Detail], str]:
    said = io.StringIO()
    out = Output(as_json=True, stdout=io.StringIO(), stderr=said)
    client = cast(ServingClient, Answers(**answers))
    return await_settled(client, list(answers), timeout_s, out), said.getvalue()


def running(**more: Any) -> Detail:
    return detail(state="RUNNING", observed_generation=1, **more)


def test_each_change_is_told_once() -> None:
    starts = detail(
        state="DEPLOYING", conditions=[{"type": "Healthy", "status": "False", "reason": "ReplicasStarting"}]
    )
    done, said = settle(a=[detail(), starts, starts, running()])
    assert [line.split('"')[3] for line in said.splitlines()] == ["queued", "deploying", "running"]
    assert "ReplicasStarting" in said
    assert done[0].model.state == "RUNNING"


def test_failed_after_the_others_are_settled() -> None:
    failed = detail(state="FAILED", observed_generation=1, error_summary="no such tensor")
    with pytest.raises(FailedError) as told:
        settle(a=[failed], b=[detail(), running(suffix="b")])
    assert (told.value.code, told.value.exit_status) == ("model_failed", 8)
    assert "no such tensor" in told.value.message
    assert told.value.data is not None
    assert [one["state"] for one in told.value.data["models"]] == ["FAILED", "RUNNING"]


def test_failed_while_an_older_revision_serves() -> None:
    serves = [{"type": "Ready", "status": "True", "reason": "RolledBack"}]
    failed = detail(state="FAILED", generation=2, observed_generation=2, error_summary="e", conditions=serves)
    with pytest.raises(FailedError) as told:
        settle(a=[failed])
    assert "goes on serving" in told.value.hint


@pytest.mark.parametrize("state", ["DELETING", "DELETED"])
def test_deleted_meanwhile(state: str) -> None:
    with pytest.raises(ConflictError) as told:
        settle(a=[detail(), detail(state=state)])
    assert (told.value.code, told.value.exit_status) == ("model_deleting", 6)


def test_not_in_time() -> None:
    with pytest.raises(NotReadyError):
        settle(timeout_s=0.05, a=[running()], b=[detail()])


def test_deleted() -> None:
    out = Output(as_json=True, stdout=io.StringIO(), stderr=io.StringIO())
    client = cast(ServingClient, Answers(a=[running(), detail(state="DELETING"), detail(state="DELETED")]))
    assert await_deleted(client, "a", 60, out).model.state == "DELETED"
