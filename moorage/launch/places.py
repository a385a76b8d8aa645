"""Where Moorage keeps files of its own on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping

from moorage.errors import UsageError

DEFAULT_STATE_FILE = "/tmp/tao-inf-ms-state.json"


def state_path(environ: Mapping[str, str]) -> str:
    """The registry: `MOORAGE_STATE_FILE`, else the TAO skill's path. Raises UsageError for a relative one."""
    text = environ.get("MOORAGE_STATE_FILE") or DEFAULT_STATE_FILE
    if not os.path.isabs(text):
        raise UsageError(
            f"MOORAGE_STATE_FILE is {text!r}, which is not an absolute path",
            hint="give an absolute path, so that every command means the same file",
        )
    return text


def beside_state(environ: Mapping[str, str], suffix: str) -> str:
    """A file beside the registry, whose name begins with the registry's: `STATE.SUFFIX`."""
    return f"{state_path(environ)}.{suffix}"


def state_folder(environ: Mapping[str, str], name: str) -> str:
    """A folder of the user's own for what one machine keeps: logs, tunnels. It may not exist yet."""
    home = environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(home):  # the XDG specification: a relative path is as good as none
        home = os.path.join(environ.get("HOME", "/"), ".local/state")
    return os.path.join(home, "moorage", name)
