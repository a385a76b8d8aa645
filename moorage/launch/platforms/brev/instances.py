"""Brev's instances as the `brev` command tells of them: text in, decisions out, no effects.

What the command prints changes between its releases, so only what is needed is read, and the rest is let be.
"""

from __future__ import annotations

import json
from collections import namedtuple

from moorage.errors import AmbiguousError, FailedError, NotFoundError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from moorage.errors import MoorageError

NAME_PREFIX = "moorage-"
CREATE_OPTIONS = {"cloud_cred_id": "--cloud-cred-id", "workspace_group_id": "--workspace-group-id"}
"""Options that only some releases of the command know when they create → their flag, here and there."""

SSH_CLIENTS = ("paramiko", "openssh")
STANDINGS = {
    "RUNNING": "up",
    "STARTING": "coming",
    "DEPLOYING": "coming",
    "UNHEALTHY": "unwell",
    "STOPPING": "off",
    "STOPPED": "off",
    "DELETING": "gone",
    "FAILURE": "failed",
}
"""Brev's status → what it means for us; `standing_of` also looks at the build."""

FAILED_BUILD = "CREATE_FAILED"
OPEN_BUILDS = ("PENDING", "BUILDING")


class Instance(namedtuple("Instance", "name id status build_status instance_type")):
    """One of the user's instances; all of them are text, "" where the command says nothing.

    `name` is also the host's alias in the SSH configuration that Brev writes. `status` and `build_status` are Brev's
    own words.
    """

    __slots__ = ()

    @property
    def words(self) -> str:
        """How it stands, in Brev's words: `RUNNING`, `RUNNING, build BUILDING`."""
        return f"{self.status}, build {self.build_status}" if self.build_status else self.status


class Choice(namedtuple("Choice", "name standing created")):
    """The instance that a service is to run on.

    `name`: its name. `standing`: as `standing_of` says, or `new` for one that is yet to be created. `created: bool`:
    whether it is this start that makes it, or that made it in an earlier try.
    """

    __slots__ = ()


def parse_listing(text: str) -> list[Instance]:
    """What `brev ls --json` printed. Notices before and after the JSON are passed over; null means none.

    Raises ValueError when there is no listing in it.
    """
    decoder = json.JSONDecoder()
    start = text.find("{")
    while start >= 0:
        try:
            found, _ = decoder.raw_decode(text, start)
        except ValueError:
            found = None
        if isinstance(found, dict) and "workspaces" in found:
            rows = found["workspaces"] or []
            return [_instance(row) for row in rows if isinstance(row, dict) and row.get("name")]
        start = text.find("{", start + 1)
    raise ValueError("no list of instances in the output")


def standing_of(instance: Instance | None) -> str:
    """`up` (can be used), `coming`, `off` (stopped, can be started), `unwell` (runs, but Brev finds it unhealthy),
    `failed`, or `gone` (not there any more; also for None).

    A status that this version does not know is `coming`: a deadline ends the wait for it.
    """
    if instance is None:
        return "gone"
    if instance.build_status == FAILED_BUILD:
        return "failed"
    standing = STANDINGS.get(instance.status, "coming")
    return "coming" if standing == "up" and instance.build_status in OPEN_BUILDS else standing


def find_named(instances: Iterable[Instance], wanted: str) -> Instance | None:
    """The instance of that name or id, one that works before one that failed; None when there is none."""
    order = ("up", "unwell", "coming", "off", "failed")
    found = [one for one in instances if wanted in (one.name, one.id) and standing_of(one) != "gone"]
    return min(found, key=lambda one: order.index(standing_of(one)), default=None)


def own_name(job_id: str) -> str:
    """What the instance is called that a start of this job id creates."""
    return f"{NAME_PREFIX}{job_id[:8]}"


def check_options(options: Mapping[str, Any]) -> None:
    """Raises UsageError for platform flags that contradict each other or cannot be meant."""
    instance, kind = options.get("instance_id"), options.get("instance_type")
    for flag, value in (("--instance-id", instance), ("--instance-type", kind)):
        if value is not None and not _is_plain(str(value)):
            raise UsageError(f"{flag} {value!r} is no name that Brev gives")
    if instance is not None and kind is not None:
        raise UsageError(
            "--instance-id and --instance-type exclude each other",
            hint="--instance-id takes an instance that is there, --instance-type one of that type, or a new one",
        )
    for name, flag in CREATE_OPTIONS.items():
        value = options.get(name)
        if value is not None and not _is_plain(str(value)):
            raise UsageError(f"{flag} {value!r} is no id that Brev gives")
        if value is not None and instance is not None:
            raise UsageError(f"{flag} is for an instance that is created, not for {instance}")
    if options.get("ssh_client") not in (None, *SSH_CLIENTS):
        raise UsageError(f"--ssh-client {options['ssh_client']!r}: it is one of {', '.join(SSH_CLIENTS)}")


def choose(instances: Sequence[Instance], options: Mapping[str, Any], job_id: str) -> Choice:
    """The instance for a service: the named one, else the only one that runs (of the type, when one is given), else
    a new one.

    Raises NotFoundError for a name that is not there, FailedError for one that failed, AmbiguousError when several
    run, and UsageError when one must be created and no type is given.
    """
    wanted, kind = options.get("instance_id"), options.get("instance_type")
    if wanted is not None:
        return _named(instances, str(wanted))
    earlier = find_named(instances, own_name(job_id))
    if earlier is not None and standing_of(earlier) != "failed":
        return Choice(earlier.name, standing_of(earlier), True)
    running = [one for one in instances if _runs(one) and kind in (None, one.instance_type)]
    if len(running) > 1:
        raise _ambiguous(running)
    if running:
        return Choice(running[0].name, standing_of(running[0]), False)
    if kind is None:
        raise UsageError(
            "no Brev instance runs, and --instance-type is not given to create one",
            code="no_instance",
            hint=f"--instance-type TYPE creates one; brev search lists the types{_listed(instances)}",
            next=["brev search", "brev ls"],
        )
    return Choice(own_name(job_id), "new", True)


def create_words(help_text: str, name: str, options: Mapping[str, Any]) -> list[str]:
    """The words after `brev` that create an instance, in the flags that `brev create --help` (`help_text`) knows.

    Raises UsageError for a flag of ours that this release of the command does not know.
    """
    for option, flag in CREATE_OPTIONS.items():
        if options.get(option) is not None and not _knows(help_text, flag):
            raise UsageError(
                f"this release of the brev command does not know {flag}",
                code="brev_flag_unknown",
                hint=f"leave {flag} away: it chooses the cloud and the group by the instance type",
            )
    type_flag = "--type" if _knows(help_text, "--type") or not _knows(help_text, "--gpu") else "--gpu"
    words = ["create", name, type_flag, str(options["instance_type"])]
    for option, flag in CREATE_OPTIONS.items():
        if options.get(option) is not None:
            words += [flag, str(options[option])]
    return [*words, "--detached"]


def check_create_flags(help_text: str, options: Mapping[str, Any]) -> None:
    """Raises UsageError as `create_words` does, before anything is created."""
    create_words(help_text, "name", {"instance_type": "type", **options})


def failure_of(instance: Instance) -> MoorageError:
    """The error for an instance that failed, in Brev's words."""
    return FailedError(
        f"the Brev instance {instance.name} is of no use: {instance.words}",
        code="instance_failed",
        hint="the Brev console says why; delete it, or choose another type",
        next=[f"brev delete {instance.name}"],
    )


def missing(instances: Iterable[Instance], wanted: str) -> MoorageError:
    """The error for an instance that is not there."""
    there = [f"{one.name} ({one.words})" for one in instances]
    return NotFoundError(
        f"there is no Brev instance {wanted!r}",
        code="no_instance",
        hint=f"there are: {', '.join(there)}" if there else "there are none",
        next=["brev ls"],
        data={"instances": there},
    )


def _named(instances: Sequence[Instance], wanted: str) -> Choice:
    instance = find_named(instances, wanted)
    if instance is None:
        raise missing(instances, wanted)
    standing = standing_of(instance)
    if standing == "failed":
        raise failure_of(instance)
    return Choice(instance.name, standing, False)


def _ambiguous(running: Sequence[Instance]) -> AmbiguousError:
    names = [one.name for one in running]
    return AmbiguousError(
        f"{len(names)} Brev instances run: {', '.join(names)}",
        code="ambiguous_instance",
        hint="name one with --instance-id",
        next=[f"moor start … --platform brev --instance-id {name}" for name in names],
        data={"candidates": [dict(zip(Instance._fields, one, strict=True)) for one in running]},
    )


def _runs(instance: Instance) -> bool:
    """Whether it runs, be its build over or not."""
    return instance.status == "RUNNING" and standing_of(instance) in ("up", "coming")


def _listed(instances: Sequence[Instance]) -> str:
    there = ", ".join(f"{one.name} ({one.words})" for one in instances)
    return f"; --instance-id takes one of these: {there}" if there else ""


def _instance(row: Mapping[str, Any]) -> Instance:
    """An id that is missing is the name: what asks by id then asks by name."""
    text = {name: str(row.get(name) or "") for name in Instance._fields}
    return Instance(**(text | {"id": text["id"] or text["name"]}))


def _knows(help_text: str, flag: str) -> bool:
    """Whether a help text has this very flag, and not one that merely begins so."""
    words = help_text.replace(",", " ").replace("=", " ").split()
    return flag in words


def _is_plain(text: str) -> bool:
    """Names, ids and types: nothing that could be taken for a flag or for several words."""
    return bool(text) and text[0].isalnum() and all(char.isalnum() or char in "._:/,@+-" for char in text)
