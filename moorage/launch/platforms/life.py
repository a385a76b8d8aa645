"""What a platform says of a service. Apart from `base` and without typing, so that `moor list` starts quickly."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from moorage.launch.tunnel.spec import TunnelSpec


class Life:
    """Whether a service lives, as the platform says now."""

    __slots__ = ("detail", "exists", "fields", "lost_tunnel", "outlook", "state")

    def __init__(
        self,
        *,
        state: str,
        detail: str | None = None,
        exists: bool = True,
        outlook: str | None = None,
        fields: Mapping[str, Any] | None = None,
        lost_tunnel: TunnelSpec | None = None,
    ) -> None:
        self.state = state
        """`alive`, `exited` (dead or gone) or `unknown` (the platform cannot be asked)."""
        self.detail = detail
        """The platform's own word: `exit code 137`, `OOMKilled`, `no such container`. None when there is none."""
        self.exists = exists
        """False when nothing of it is left on the platform."""
        self.outlook = outlook
        """Of one that is alive and not serving yet: `failed` (it never will: a bad image, a refused quota),
        `no_capacity` (the scheduler has no room for it; `detail` says why), None when it may still come."""
        self.fields = fields or {}
        """Fields of the entry that only the platform knows, as they are now: `host_url`, `slurm_node`, `tunnel`."""
        self.lost_tunnel = lost_tunnel
        """The tunnel that a living service should have, when no process keeps it; `launch.mending` starts it again."""

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
