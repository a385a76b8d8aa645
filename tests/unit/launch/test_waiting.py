"""Waiting for readiness, with time passed in: every way it can end."""

from __future__ import annotations

import json

import pytest

from moorage.errors import FailedError, NotReadyError, PlatformUnreachable, TryAgainError
from moorage.launch.platforms.base import Life
from moorage.launch.readiness import Answer, Contract
from moorage.launch.waiting import Clock, Wait

CONTRACT = Contract("tao", ("/ready",), ("model_load_failed",), "me", None)


class Script:
    """A service whose answers and lives are written down, one for each second."""

    def __init__(self, answers, lives=("alive",), log=("first", "the secret is hunter2hunter2"), log_fault=None):
        self.answers, self.lives, self.log, self.log_fault = answers, lives, log, log_fault
        self.now = 0.0
        self.told = []

    def at(self, items):
        return items[min(int(self.now), len(items) - 1)]

    def status(self, entries):
        state = self.at(self.lives)
        return {"me": Life(state=state, detail=None if state == "alive" else "exit code 3")}

    def logs(self, entry, *, tail, follow):
        if self.log_fault:
            raise self.log_fault
        yield from self.log

    def fetch(self, url, timeout_s):
        item = self.at(self.answers)
        return item if item is None else Answer(item[0], json.dumps(item[1]).encode())

    def pause(self, seconds):
        self.now += max(seconds, 0.01)

    def wait(self, timeout_s):
        return Wait(
            entry={"job_id": "me", "platform": "local-docker", "host_url": "http://localhost:1"},
            platform=self,
            contract=CONTRACT,
            timeout_s=timeout_s,
            request_timeout_s=1,
            report=lambda phase, message, **numbers: self.told.append(message),
            secrets={"HF_TOKEN": "hunter2hunter2"},
            fetch=self.fetch,
            clock=Clock(now_s=lambda: self.now, pause=self.pause),
        ).until_ready()


LOADING = (503, {"reason": "model_loading"})
READY = (200, {"status": "ready", "job_id": "me"})


def test_ready_after_a_while():
    script = Script([None, LOADING, LOADING, READY])
    assert 3 <= script.wait(60) < 4
    assert script.told[0] == "not listening yet"
    assert "model_loading" in script.told


def test_ready_at_once_takes_no_time():
    assert Script([READY]).wait(0) == 0


@pytest.mark.parametrize("answers", [[None], [LOADING]], ids=["silent", "loading"])
def test_death_is_told_within_two_seconds_with_its_last_words(answers):
    script = Script(answers, lives=["alive", "alive", "exited"])
    with pytest.raises(FailedError) as caught:
        script.wait(600)
    assert script.now < 4
    assert "exit code 3" in caught.value.message
    assert caught.value.data["log_tail"] == ["first", "the secret is <HF_TOKEN>"]


def test_a_fatal_reason_ends_it_at_once():
    script = Script([LOADING, (503, {"reason": "model_load_failed"})])
    with pytest.raises(FailedError) as caught:
        script.wait(600)
    assert script.now < 2
    assert caught.value.code == "model_load_failed"


def test_a_platform_that_cannot_be_asked_is_no_death():
    assert Script([None, None, READY], lives=["unknown"]).wait(60) < 3


def far(script, **life):
    """The same service where its address is not known before the platform tells it."""
    script.status = lambda _entries: {"me": Life(state="alive", **life)}
    return Wait(
        entry={"job_id": "me", "platform": "kubernetes", "host_url": None},
        platform=script,
        contract=CONTRACT,
        timeout_s=60,
        request_timeout_s=1,
        report=lambda phase, message, **numbers: script.told.append(message),
        secrets={},
        fetch=script.fetch,
        clock=Clock(now_s=lambda: script.now, pause=script.pause),
    )


def test_an_address_that_is_known_late_is_learnt():
    wait = far(Script([READY]), fields={"host_url": "http://192.0.2.7:8080", "tunnel": None})
    assert wait.until_ready() == 0
    assert wait.learnt["host_url"] == "http://192.0.2.7:8080"


def test_what_never_will_come_up_has_failed_at_once():
    script = Script([READY])
    with pytest.raises(FailedError) as caught:
        far(script, detail="ErrImagePull: no such image", outlook="failed").until_ready()
    assert (script.now, caught.value.code) == (0, "start_failed")
    assert "no such image" in caught.value.message


def test_no_room_is_told_in_the_scheduler_s_words():
    with pytest.raises(TryAgainError) as caught:
        far(Script([READY]), detail="Insufficient nvidia.com/gpu", outlook="no_capacity").until_ready()
    assert caught.value.code == "no_capacity"
    assert "Insufficient nvidia.com/gpu" in caught.value.message


def test_while_nothing_answers_the_platform_s_word_is_told():
    script = Script([None])
    with pytest.raises(NotReadyError) as caught:
        far(script, detail="PENDING: Priority").until_ready()
    assert "PENDING: Priority" in caught.value.message
    assert script.told[0] == "PENDING: Priority"


def test_time_is_over():
    script = Script([LOADING])
    with pytest.raises(NotReadyError) as caught:
        script.wait(5)
    assert 5 <= script.now < 6
    assert caught.value.next == ["moor wait me", "moor logs me", "moor stop me"]
    assert "model_loading" in caught.value.message


def test_a_death_in_the_last_moment_is_a_death():
    with pytest.raises(FailedError):
        Script([None], lives=["exited"]).wait(0)


def test_logs_that_cannot_be_had_hide_nothing_else():
    script = Script([None], lives=["exited"], log_fault=PlatformUnreachable("gone"))
    with pytest.raises(FailedError) as caught:
        script.wait(10)
    assert caught.value.data["log_tail"] == []


def test_progress_is_told_again_while_nothing_changes():
    script = Script([None] * 30 + [READY])
    script.wait(60)
    assert len(script.told) >= 5
