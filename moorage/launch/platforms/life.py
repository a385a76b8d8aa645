"""What a platform says of a service. Apart from `base` and without typing, so that `moor list` starts quickly."""

from __future__ import annotations


class Life:
    """Whether a service lives, as the platform says now."""

    __slots__ = ("detail", "exists", "state")

    def __init__(self, *, state: str, detail: str | None = None, exists: bool = True) -> None:
        self.state = state
        """`alive`, `exited` (dead or gone) or `unknown` (the platform cannot be asked)."""
        self.detail = detail
        """The platform's own word: `exit code 137`, `OOMKilled`, `no such container`. None when there is none."""
        self.exists = exists
        """False when nothing of it is left on the platform."""

    def __repr__(self) -> str:
        return f"Life(state={self.state!r}, detail={self.detail!r}, exists={self.exists!r})"


class Check:
    """One line of `doctor`."""

    __slots__ = ("hint", "message", "name", "ok")

    def __init__(self, *, name: str, ok: bool, message: str, hint: str = "") -> None:
        self.name = name
        self.ok = ok
        self.message = message
        self.hint = hint
        """What to do about it; "" when there is nothing to do."""

    def __repr__(self) -> str:
        return f"Check({self.name!r}, ok={self.ok!r}, message={self.message!r}, hint={self.hint!r})"
