"""A list that a backend refuses is gone through without ever leaving out what runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from moorage.errors import ConflictError, FailedError
from moorage.serving.backends.contract import BackendUnreachable, Wanted
from moorage.serving.plan.plan import Difference
from moorage.serving.reconciling.applying import apply
from moorage.serving.spec.spec import ServingSpec


def wanted(name: str, replicas: int = 1) -> Wanted:
    spec = ServingSpec(model_id=name, model_source="x", num_replicas=replicas)
    return Wanted(app=name, model_key=name, model_id=name, spec=spec)


class Backend:
    def __init__(self, refuses: str = "", unreachable_at: int = 0) -> None:
        self.lists: list[list[str]] = []
        self.refuses = refuses
        self.unreachable_at = unreachable_at

    def apply(self, wanted: Sequence[Wanted]) -> None:
        told = [f"{one.app}{one.spec.num_replicas}" for one in wanted]
        self.lists.append(told)
        if len(self.lists) == self.unreachable_at:
            raise BackendUnreachable("gone")
        if set(told) & set(self.refuses.split()):
            raise FailedError("no", code="refused")


OLD, GROWN, NEW, BAD = wanted("old"), wanted("grows", 2), wanted("new"), wanted("bad")
GAP = Difference(same=(OLD,), changed=(GROWN,), added=(BAD, NEW), gone=("gone",))
ALL = (OLD, GROWN, BAD, NEW)


def before(one: Wanted) -> Wanted | None:
    return replace(one, spec=replace(one.spec, num_replicas=1))


def test_each_is_tried_on_top_of_what_runs() -> None:
    backend, asked = Backend("bad1"), []
    refused = apply(backend, ALL, GAP, held=before, before_each=lambda: asked.append(1))
    assert refused == {"bad": "no"}
    assert backend.lists == [
        ["old1", "grows2", "bad1", "new1"],
        ["old1", "grows1"],
        ["old1", "grows2"],
        ["old1", "grows2", "bad1"],
        ["old1", "grows2", "new1"],
    ]
    assert len(asked) == len(backend.lists), "the lease is looked at before every call"


def test_a_refused_change_stays_as_it_was() -> None:
    backend = Backend("grows2")
    assert apply(backend, ALL, GAP, held=before, before_each=lambda: None) == {"grows": "no"}
    assert backend.lists[-1] == ["old1", "grows1", "bad1", "new1"]


def test_one_suspect_alone_is_not_asked_twice() -> None:
    backend = Backend("bad1")
    gap = Difference(same=(OLD,), changed=(), added=(BAD,), gone=())
    assert apply(backend, (OLD, BAD), gap, held=before, before_each=lambda: None) == {"bad": "no"}
    assert len(backend.lists) == 1


@pytest.mark.parametrize(
    ("refuses", "gap", "known"),
    [
        ("old1", Difference(same=(OLD,), changed=(), added=(), gone=("gone",)), True),
        ("old1", GAP, True),
        ("bad1", GAP, False),
    ],
)
def test_nothing_is_told_when_nobody_can_say_what_is_refused(refuses: str, gap: Difference, known: bool) -> None:
    backend = Backend(refuses)
    with pytest.raises(BackendUnreachable, match="refuses what it runs already: no"):
        apply(backend, ALL, gap, held=before if known else lambda _: None, before_each=lambda: None)
    assert len(backend.lists) <= 2


@pytest.mark.parametrize("call", range(1, 6))
def test_it_ends_when_the_backend_goes_away(call: int) -> None:
    backend = Backend("bad1", unreachable_at=call)
    with pytest.raises(BackendUnreachable, match="gone"):
        apply(backend, ALL, GAP, held=before, before_each=lambda: None)
    assert len(backend.lists) == call


def test_it_ends_when_another_reconciler_took_over() -> None:
    backend = Backend("bad1")

    def lost() -> None:
        if len(backend.lists) == 2:
            raise ConflictError("taken", code="lease_lost")

    with pytest.raises(ConflictError):
        apply(backend, ALL, GAP, held=before, before_each=lost)
    assert len(backend.lists) == 2
