"""Optional packages of Moorage."""

from __future__ import annotations

import sys

__all__ = ["install_command", "upgrade_command"]


def install_command(*extras: str) -> str:
    """What installs them for the Python that runs this, whichever `pip` is first on PATH."""
    return f"{_pip()} install 'moorage[{','.join(extras)}]'"


def upgrade_command(package: str) -> str:
    """The same for a newer one of a package that is there."""
    return f"{_pip()} install --upgrade {package}"


def _pip() -> str:
    from shlex import quote

    return f"{quote(sys.executable)} -m pip"
