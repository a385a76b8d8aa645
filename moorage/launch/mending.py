"""Tunnels that are started again, and ended: never one that nobody ends.

A tunnel's process may end by itself (killed, out of memory), and whoever looks at the service starts it again. That
and the end of a stop are both done under the registry's lock: a tunnel belongs to an entry, and goes with it. So how a
look and a stop overlap does not matter: a tunnel that was started before the entry is taken out is ended with it, and
after that none is started.
"""

from __future__ import annotations

from collections.abc import Callable

from moorage.errors import MoorageError
from moorage.launch.entry import Entry
from moorage.launch.plane import Plane
from moorage.launch.platforms import NEAR_PLATFORMS
from moorage.launch.platforms.life import Life
from moorage.launch.processes import identity_from, is_alive
from moorage.launch.registry import State


def mend(plane: Plane, entry: Entry, life: Life) -> Life:
    """The life with its lost tunnel started again and recorded, where that may be. Raises nothing."""
    if life.lost_tunnel is None:
        return life
    from moorage.launch.tunnel.tunnels import ensure_tunnel

    job_id = str(entry["job_id"])
    try:
        with plane.registry.transaction() as state:
            recorded = state.services.get(job_id)
            if recorded is None or not may_mend(recorded, entry, runs=_runs):
                return life
            field = ensure_tunnel(life.lost_tunnel, recorded, plane.environ)
            if "pid" in field:
                recorded["tunnel"] = field
    except MoorageError:  # of the registry: what was asked is how the service does, and that is known
        return life
    fields = {**life.fields, "tunnel": field}
    return Life(state=life.state, detail=life.detail, exists=life.exists, outlook=life.outlook, fields=fields)


def may_mend(recorded: Entry, asked: Entry, *, runs: Callable[[object], bool]) -> bool:
    """Whether the tunnel of a living service may be started again.

    `recorded` is the entry now, `asked` as it was when the platform was asked; `runs` says of a field like `starter`
    whether that process lives. Not where a stop was asked for, nor for a later start with the same id; and not while it
    is launched: the starter begins its tunnel itself, and has it recorded.
    """
    if recorded.get("started_at") != asked.get("started_at") or recorded.get("stop_requested_at"):
        return False
    return bool(recorded.get("tunnel")) or not runs(recorded.get("starter"))


def remove_with_tunnel(plane: Plane, state: State, entry: Entry) -> None:
    """In a transaction: take the entry out, and end its tunnel. Raises FailedError when that does not go.

    The platform's stop has ended the tunnel by then; this is for one that was started again meanwhile.
    """
    if entry.get("platform") not in NEAR_PLATFORMS:
        from moorage.launch.tunnel.tunnels import end_tunnel

        end_tunnel(state.services.get(entry["job_id"], entry), plane.environ)
    state.remove(entry["job_id"])


def _runs(field: object) -> bool:
    identity = identity_from(field)
    return identity is not None and is_alive(identity)
