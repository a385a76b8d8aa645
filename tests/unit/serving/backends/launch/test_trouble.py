"""What is said of replicas that failed."""

from __future__ import annotations

from moorage.errors import ConflictError, FailedError, PlatformUnreachable
from moorage.serving.backends.launch.jobs import Deed, Done
from moorage.serving.backends.launch.trouble import HOLD_S, after, last_words
from moorage.serving.reasons import Reason

DIED = Done(deed=Deed.END, app="a", job_id="j", slot=1, detail="exit code 1", tail=("loading", "ValueError: bad dtype"))


def test_what_died_says_why():
    trouble = after(None, DIED, 10.0)
    assert trouble.message == "replica-1 ended (exit code 1): ValueError: bad dtype"
    assert trouble.tail == (
        "[replica-1] loading",
        "[replica-1] ValueError: bad dtype",
        "[replica-1] -- it ended: exit code 1 --",
    )
    assert (trouble.failures, trouble.passing, trouble.not_before) == (1, False, 11.0)


def test_failures_in_a_row_wait_longer_and_are_forgotten():
    second = after(after(None, DIED, 10.0), DIED, 12.0)
    assert (second.failures, second.not_before) == (2, 14.0)
    assert after(second, DIED, 12.0 + HOLD_S).failures == 1


def test_what_was_asked_for_is_no_failure():
    assert after(None, Done(deed=Deed.END, app="a", job_id="j", slot=0), 1.0) is None
    assert after(None, Done(deed=Deed.START, app="a", job_id="j", slot=0), 1.0) is None


def test_what_may_pass_is_told_from_what_stays():
    def trouble(fault, deed=Deed.START):
        return after(None, Done(deed=deed, app="a", job_id="j", slot=0, fault=fault), 1.0)

    assert trouble(PlatformUnreachable("no answer")).passing
    full = trouble(ConflictError("no free port", code="ports_exhausted"))
    assert (full.passing, full.reason) == (True, Reason.NO_CAPACITY)
    assert not trouble(FailedError("no such program")).passing
    assert trouble(FailedError("bad adapter", code="adapter_refused"), Deed.ADAPT).refused
    assert trouble(PlatformUnreachable("no answer"), Deed.ADAPT) is None


def test_a_port_that_was_taken_meanwhile_passes():
    done = Done(
        deed=Deed.END, app="a", job_id="j", slot=0, detail="exit code 1", tail=("[Errno 98] Address already in use",)
    )
    assert after(None, done, 1.0).passing


def test_the_cause_is_found_above_the_wrapper():
    lines = [
        "ValueError: no such file",
        "  at x",
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ]
    assert last_words(lines) == "ValueError: no such file"
    assert last_words(["one", "two", ""]) == "two"
    assert last_words([]) == ""
