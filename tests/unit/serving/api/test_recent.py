"""What many ask for at the same moment is read once, and nobody is told less than is known to have changed."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from moorage.serving.api.changes import Changes
from moorage.serving.api.recent import MOST_BATCHES, Recent
from moorage.serving.log import Log


class Counting:
    """A store that says what it was asked."""

    def __init__(self) -> None:
        self.at = 5
        self.asked: list[int] = []
        self.good = {"mine", "yours"}
        self.looked: list[str] = []

    def changed_since(self, version: int, _: str | None) -> tuple[int, tuple[Any, ...]]:
        self.asked.append(version)
        return self.at, (f"{version}-{self.at}",)

    def is_good(self, secret: str) -> bool:
        self.looked.append(secret)
        return secret in self.good


def recent() -> tuple[Counting, Changes, Recent]:
    store = Counting()
    changes = Changes(lambda: store.at, Log(io.StringIO()))
    changes.version = store.at
    return store, changes, Recent(store, changes, store.is_good)  # type: ignore[arg-type]


def test_all_who_ask_the_same_get_what_one_read() -> None:
    store, _, found = recent()
    assert found.at_hand(3, "mine") is None
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda n: found.read(3, ("mine", "yours")[n % 2]), range(40)))
    assert (store.asked, sorted(store.looked)) == ([3], ["mine", "yours"])
    assert all(one is batches[0] for one in batches)
    assert (found.at_hand(3, "mine"), found.at_hand(3, "other"), found.at_hand(2, "mine")) == (batches[0], None, None)


def test_what_is_known_to_be_older_than_the_last_change_is_read_again() -> None:
    store, changes, found = recent()
    found.read(3, "mine")
    store.at = changes.version = 6
    store.good.remove("mine")
    assert found.at_hand(3, "mine") is None
    batch = found.read(3, "mine")
    assert (batch.now, batch.models, batch.secrets) == (6, ("3-6",), {"mine": False})


def test_another_history_is_not_taken_for_this_one() -> None:
    """A backup was put back, and the numbers come again."""
    store, changes, found = recent()
    found.read(3, "mine")
    store.at = changes.version = 4
    changes.history += 1
    assert found.at_hand(3, "mine") is None
    assert found.read(3, "mine").models == ("3-4",)


def test_it_keeps_a_few() -> None:
    store, _, found = recent()
    for version in (*range(MOST_BATCHES + 3), *range(3, MOST_BATCHES + 3)):
        found.read(version, "mine")
    assert store.asked == list(range(MOST_BATCHES + 3))
    assert found.at_hand(0, "mine") is None
