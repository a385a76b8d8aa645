"""Waiting until what was declared serves, failed, or is gone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from moorage.errors import NotReadyError, TryAgainError

if TYPE_CHECKING:
    from moorage.client.serving.values import Detail

__all__ = ["wait_until_settled"]

LONGEST_S = 2.0


def wait_until_settled(
    ask: Callable[[str], Detail],
    model_key: str,
    *,
    timeout_s: float,
    poll_s: float = 0.5,
    see: Callable[[Detail], None] = lambda _: None,
    until: Callable[[Detail], bool] = lambda detail: detail.model.settled,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Detail:
    """The model once `until` is so. `see` is shown each answer; a server that does not answer is asked again.

    Raises NotReadyError `not_settled` when that is not so after `timeout_s`, and the last TryAgainError when nobody
    answers then.
    """
    deadline = clock() + timeout_s
    pause = poll_s
    while True:
        try:
            detail = ask(model_key)
        except TryAgainError:
            if clock() >= deadline:
                raise
        else:
            see(detail)
            if until(detail):
                return detail
            if clock() >= deadline:
                raise _late(detail, timeout_s)
        sleep(max(0.0, min(pause, deadline - clock())))
        pause = min(LONGEST_S, pause * 1.25)


def _late(detail: Detail, timeout_s: float) -> NotReadyError:
    model = detail.model
    told = [one for one in model.conditions if one.status != "True"]
    why = "; ".join(f"{one.type} is {one.status}: {one.reason} {one.message}".strip() for one in told)
    return NotReadyError(
        f"{model.model_alias} is {model.state} after {timeout_s:g} s" + (f" ({why})" if why else ""),
        code="not_settled",
        hint="it goes on by itself; wait again, or read its logs",
        next=[f"moor models get {model.model_key}", f"moor models logs {model.model_key}"],
        data={"model": model.raw},
    )
