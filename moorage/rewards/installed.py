"""Which reward functions there are: ours, and those of other packages, by their entry points. Nothing is imported."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points

import msgspec

from moorage.errors import UsageError

__all__ = ["GROUP", "OURS", "Installed", "find_installed", "installed", "unknown_reward"]

GROUP = "moorage.rewards"

OURS = {
    "exact": "moorage.rewards.functions.exact:ExactMatch",
    "json_schema": "moorage.rewards.functions.json_schema:JsonSchema",
    "math": "moorage.rewards.functions.math_verify:MathVerify",
    "numeric": "moorage.rewards.functions.numeric:Numeric",
    "regex": "moorage.rewards.functions.regex:Regex",
    "remote": "moorage.rewards.functions.remote:Remote",
}
"""Those of this package; pyproject.toml names the same, but a checkout need not be installed."""

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """A function that can be named."""

    name: str
    target: str
    """`module:object`."""
    package: str
    """The distribution that brings it, with its version."""


def installed(found: Sequence[EntryPoint] | None = None) -> list[Installed]:
    """By name. Two packages may use one name: then both are there, and the name cannot be used.

    `found`: entry points to look at instead of those of this environment.
    """
    from moorage import __version__

    mine = [
        Installed(name=name, target=target, package=f"moorage {__version__}") for name, target in sorted(OURS.items())
    ]
    others = {
        (one.name, one.value): Installed(name=one.name, target=one.value, package=_package(one))
        for one in (entry_points(group=GROUP) if found is None else found)
        if OURS.get(one.name) != one.value and NAME.fullmatch(one.name)
    }
    return sorted([*mine, *others.values()], key=lambda one: (one.name, one.target))


def find_installed(name: str, known: Sequence[Installed]) -> Installed:
    """Raises UsageError `reward_unknown` with the list, `reward_ambiguous` for a name that several packages use."""
    found = [one for one in known if one.name == name]
    if not found:
        raise unknown_reward(name, [one.name for one in known])
    if len(found) > 1:
        packages = " and ".join(one.package for one in found)
        raise UsageError(
            f"the reward {name!r} is in {packages}: one of them must go", code="reward_ambiguous", hint="pip uninstall"
        )
    return found[0]


def unknown_reward(name: str, known: Sequence[str]) -> UsageError:
    """What is said of a name that is none."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, 1)
    return UsageError(
        f"there is no reward {name[:80]!r}: there are {', '.join(names)}",
        code="reward_unknown",
        hint=f"did you mean {near[0]}?" if near else "moor rewards list",
    )


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "?"
