"""Optional packages of Moorage."""

from __future__ import annotations

import sys

from moorage.errors import PreflightError

__all__ = ["install_command", "package_missing", "upgrade_command"]


def package_missing(name: str | None, need: str, *extras: str) -> PreflightError:
    """To be raised. `name`: of the package that is not there; `need`: what cannot do without it; `extras` have it."""
    return PreflightError(
        f"the Python package {name!r} is not installed: {need}",
        code="package_missing",
        next=[install_command(*extras)],
    )


def install_command(*extras: str) -> str:
    """What installs them for the Python that runs this, whichever `pip` is first on PATH."""
    return f"{_pip()} install 'moorage[{','.join(extras)}]'"


def upgrade_command(package: str) -> str:
    """The same for a newer one of a package that is there."""
    return f"{_pip()} install --upgrade {package}"


def _pip() -> str:
    from shlex import quote

    return f"{quote(sys.executable)} -m pip"
