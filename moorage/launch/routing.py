"""Which service a command means: pure, and never a silent default.

The rules are the TAO skill's section 6.0: an id, else an arch, else the only service there is. Several candidates are
an error that lists them; the `latest` pointer is never used to choose.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from moorage.errors import AmbiguousError, FailedError, MoorageError, NotFoundError, UsageError
from moorage.launch.entry import Entry, candidate, started_at_s


def resolve(
    services: Mapping[str, Entry],
    *,
    job_id: str | None = None,
    network_arch: str | None = None,
    dead: Collection[str] = (),
    live_only: bool = False,
    verb: str = "status",
) -> Entry:
    """The one entry that is meant.

    `dead` are ids known to be dead. With `live_only` (a request) they are no candidates, and naming one is an error.
    `verb` is what the commands in an error's `next` say.

    Raises NotFoundError, AmbiguousError, UsageError (id and arch disagree), FailedError (a dead one named).
    """
    if job_id is not None:
        return _by_id(services, job_id, network_arch, dead if live_only else ())
    entries = [
        entry
        for key, entry in services.items()
        if (network_arch is None or entry.get("network_arch") == network_arch) and not (live_only and key in dead)
    ]
    if len(entries) == 1:
        return entries[0]
    if entries:
        raise _ambiguous(entries, network_arch, verb)
    raise _nothing(services, network_arch)


def _by_id(services: Mapping[str, Entry], job_id: str, network_arch: str | None, dead: Collection[str]) -> Entry:
    entry = services.get(job_id)
    if entry is None:
        hint = "'latest' is no id: name the service" if job_id == "latest" else "moor list shows what is running"
        raise NotFoundError(f"no service has the id {job_id!r}", hint=hint, next=["moor list"])
    if network_arch is not None and entry.get("network_arch") != network_arch:
        raise UsageError(
            f"the service {job_id} is of arch {entry.get('network_arch')!r}, not {network_arch!r}",
            code="target_mismatch",
            hint="give --job-id or --network-arch, not both",
        )
    if job_id in dead:
        raise FailedError(
            f"the service {job_id} is dead ({entry.get('state', 'exited')})",
            code="service_dead",
            hint="its logs say why; then stop it and start a new one",
            next=[f"moor logs {job_id}", f"moor stop {job_id}"],
        )
    return entry


def _ambiguous(entries: list[Entry], network_arch: str | None, verb: str) -> AmbiguousError:
    newest_first = sorted(entries, key=started_at_s, reverse=True)
    what = f"{len(entries)} services of arch {network_arch!r}" if network_arch else f"{len(entries)} services"
    return AmbiguousError(
        f"{what} match: name one with --job-id",
        hint="; ".join(
            f"{entry['job_id']} {entry.get('network_arch')} {entry.get('host_url')}" for entry in newest_first
        ),
        next=[f"moor {verb} --job-id {entry['job_id']}" for entry in newest_first],
        data={"candidates": [candidate(entry) for entry in newest_first]},
    )


def _nothing(services: Mapping[str, Entry], network_arch: str | None) -> MoorageError:
    if network_arch is not None and services:
        return NotFoundError(
            f"no service of arch {network_arch!r} is running",
            hint="moor list shows what is",
            next=["moor list", f"moor start --network-arch {network_arch} --model-path PATH"],
        )
    return NotFoundError(
        "no service is running",
        hint="start one first",
        next=["moor quickstart", "moor start --network-arch ARCH --model-path PATH"],
    )
