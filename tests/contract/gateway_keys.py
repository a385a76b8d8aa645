"""Keys for a gateway under test, and how they are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from moorage.gateway.auth.keeping import KeyKeeper
from moorage.pool.contract import Role

__all__ = ["Keys", "shown"]


class Keys:
    """The keys of the store of a gateway in `folder`; `admin` and `trainer` are two that are good."""

    def __init__(self, folder: Path) -> None:
        self.keeper = KeyKeeper(f"sqlite:///{folder / 'gateway.db'}")
        self.given: list[str] = []
        """Every key that was made."""
        self.admin = self.make("admin")[0]
        self.trainer = self.make("trainer")[0]

    def make(self, role: Role, *, lifetime_s: float | None = None) -> tuple[str, str]:
        """(key, its id)."""
        text, key = self.keeper.create(role, note="", lifetime_s=lifetime_s, output=None)
        self.given.append(text)
        return text, key.key_id


def shown(key: str, **more: str) -> dict[str, Any]:
    """As options of a request: the key as OpenAI's clients show it."""
    return {"headers": {"authorization": f"Bearer {key}", **more}}
