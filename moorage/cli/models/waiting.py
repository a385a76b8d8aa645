"""Waiting for models, and telling how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from moorage.errors import ConflictError, FailedError

if TYPE_CHECKING:
    from moorage.cli.output import Output
    from moorage.client.serving.client import ServingClient
    from moorage.client.serving.values import Detail, Model

__all__ = ["await_deleted", "await_settled"]

POLL_S = 0.3
GOING = ("DELETING", "DELETED")


def await_settled(client: ServingClient, keys: Sequence[str], timeout_s: float, out: Output) -> list[Detail]:
    """Each model once it serves, all within the one time.

    Raises NotReadyError `not_settled`, FailedError `model_failed`, ConflictError `model_deleting`; `data["models"]`
    holds those that were settled before, and the one that it is about.
    """
    import time

    deadline = time.monotonic() + timeout_s
    done: list[Detail] = []
    for key in keys:
        left_s = max(0.0, deadline - time.monotonic())
        detail = _await(client, key, left_s, out, lambda one: one.model.settled or one.model.state in GOING)
        done.append(detail)
    failed = [detail.model for detail in done if detail.model.state != "RUNNING"]
    if failed:
        raise _fault(failed[0], [detail.model for detail in done])
    return done


def await_deleted(client: ServingClient, key: str, timeout_s: float, out: Output) -> Detail:
    """The model once it is DELETED. Raises NotReadyError `not_settled`."""
    return _await(client, key, timeout_s, out, lambda one: one.model.state == "DELETED")


def _await(client: ServingClient, key: str, timeout_s: float, out: Output, until: Callable[[Detail], bool]) -> Detail:
    from moorage.client.serving.settling import wait_until_settled

    told = ""

    def see(detail: Detail) -> None:
        nonlocal told
        text = _how_far(detail.model)
        if text != told:
            told = text
            model = detail.model
            out(model.state.lower(), text, generation=model.generation, observed_generation=model.observed_generation)

    return wait_until_settled(client.model, key, timeout_s=timeout_s, poll_s=POLL_S, see=see, until=until)


def _how_far(model: Model) -> str:
    open_ones = [one for one in model.conditions if one.status != "True"]
    why = f": {open_ones[0].reason} {open_ones[0].message}".rstrip() if open_ones and not model.settled else ""
    return f"{model.model_alias} {model.state}{why}"


def _fault(model: Model, models: Sequence[Model]) -> FailedError | ConflictError:
    data = {"model": model.raw, "models": [one.raw for one in models]}
    if model.state in GOING:
        return ConflictError(
            f"{model.model_alias} was deleted meanwhile: it is {model.state}", code="model_deleting", data=data
        )
    ready = model.condition("Ready")
    older = ready is not None and ready.status == "True"
    return FailedError(
        f"{model.model_alias} failed: {model.error_summary or 'no reason was given'}",
        code="model_failed",
        hint="the revision before it goes on serving; change the spec" if older else "read its logs, change the spec",
        next=[f"moor models logs {model.model_key}", f"moor models get {model.model_key}"],
        data=data,
    )
