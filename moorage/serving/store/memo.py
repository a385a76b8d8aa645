"""Models that were read before: a row that is the same again is not taken apart again."""

from __future__ import annotations

import threading
from typing import Any

from sqlalchemy import Row

from moorage.serving.model import Model
from moorage.serving.store.rows import model_of

__all__ = ["Memo"]

_MOST = 10_000


class Memo:
    """Compares whole rows, so it can never be out of date. What it gives is shared: not to be changed inside."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[tuple[Any, ...], Model]] = {}
        self._filling = threading.Lock()

    def __call__(self, row: Row[Any]) -> Model:
        """Of a row with the columns of `models`."""
        values = tuple(row)
        found = self._known.get(row.born)
        if found is not None and found[0] == values:
            return found[1]
        model = model_of(row)
        with self._filling:
            self._known[row.born] = (values, model)
            if len(self._known) > _MOST:
                del self._known[next(iter(self._known))]
        return model
