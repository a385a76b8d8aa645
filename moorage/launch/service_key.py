"""The key of services that want one in every request: read where it is kept, never recorded with the service.

The user's variable comes first; else one made key is kept beside the registry, in a file for the owner alone.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from moorage.errors import PreflightError
from moorage.launch.places import beside_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE_SUFFIX = "lepton-token"
KEY_BYTES = 32
LONGEST_KEY = 4096
PRINTABLE = frozenset(map(chr, range(0x21, 0x7F)))
"""What may stand in a header after `Bearer `: anything else would end the header, or be shown in an error."""


def service_key(token_env: str, environ: Mapping[str, str], *, make: bool) -> str:
    """The key that the variable `token_env` holds; when it is unset or empty, the one kept beside the registry.

    `make`: make that one when there is none yet. Raises PreflightError when there is no key, when the variable holds
    what cannot be a key, or when the file is not the user's alone. Never shows the key.
    """
    value = environ.get(token_env, "")
    if value:
        return _checked(value, f"the variable {token_env}")
    path = beside_state(environ, FILE_SUFFIX)
    kept = _read(path)
    if kept is None and make:
        _make(path)
        kept = _read(path)
    if kept is None:
        raise PreflightError(
            f"there is no key for the service: {token_env} is not set, and {path} does not exist",
            code="service_key_missing",
            hint=f"set {token_env} to the key that the service was started with",
        )
    return kept


def auth_headers(entry: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """The headers that a request to this service needs, and to no other host; {} for a service without a key.

    Raises PreflightError as `service_key` does.
    """
    token_env = entry.get("token_env")
    if not isinstance(token_env, str) or not token_env:
        return {}
    return {"Authorization": f"Bearer {service_key(token_env, environ, make=False)}"}


def _read(path: str) -> str | None:
    """What the file holds; None when it does not exist."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as fault:
        raise _unusable(path, fault.strerror or "cannot be opened") from fault
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise _unusable(path, "is not a plain file")
        if found.st_uid != os.getuid():
            raise _unusable(path, "belongs to another user")
        if found.st_mode & 0o077:
            raise _unusable(path, "can be read by others")
        return _checked(os.read(handle, LONGEST_KEY + 1).decode("latin-1").strip(), path)
    finally:
        os.close(handle)


def _make(path: str) -> None:
    """A new key at once whole: a file that several starts find is never half written, and the first one stays."""
    import secrets
    from pathlib import Path

    draft = f"{path}.{secrets.token_hex(8)}"
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(f"{secrets.token_urlsafe(KEY_BYTES)}\n")
                file.flush()
                os.fsync(handle)
            os.link(draft, path)
        finally:
            Path(draft).unlink()
    except FileExistsError:
        return
    except OSError as fault:
        raise _unusable(path, fault.strerror or "cannot be written") from fault


def _checked(value: str, where: str) -> str:
    if not value or len(value) > LONGEST_KEY or not PRINTABLE.issuperset(value):
        raise PreflightError(
            f"{where} holds no key: a key is one word of printable ASCII",
            code="service_key_bad",
            hint="give another key, or take it away to have one made",
        )
    return value


def _unusable(path: str, why: str) -> PreflightError:
    return PreflightError(
        f"the file with the key of services, {path}, is of no use: {why}",
        code="service_key_file",
        hint="look at it, and take it away; the next start makes another key, which running services do not know",
    )
