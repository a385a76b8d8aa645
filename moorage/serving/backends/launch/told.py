"""What the backend was last told, kept in a file beside the registry: a crash forgets none of it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorage.serving.backends.contract import BackendUnreachable, Wanted
from moorage.serving.spec.spec import ServingSpec

__all__ = ["Told", "ToldFile"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One application as it was told."""

    wanted: Wanted
    digest: str
    removing: bool = False
    """It is being taken away; it is forgotten when nothing of it is left."""
    was_ready: bool = False
    """A replica of it has answered once."""

    def to_dict(self) -> dict[str, Any]:
        """As the file holds it."""
        return {
            "model_key": self.wanted.model_key,
            "model_id": self.wanted.model_id,
            "spec": self.wanted.spec.to_dict(),
            "digest": self.digest,
            "removing": self.removing,
            "was_ready": self.was_ready,
        }

    @classmethod
    def from_dict(cls, app: str, data: dict[str, Any]) -> Told:
        """What `to_dict` wrote. Raises KeyError, TypeError or ValueError for something else."""
        spec = ServingSpec.from_dict(data["spec"])
        return cls(
            wanted=Wanted(app=app, model_key=data["model_key"], model_id=data["model_id"], spec=spec),
            digest=str(data["digest"]),
            removing=bool(data["removing"]),
            was_ready=bool(data["was_ready"]),
        )


class ToldFile:
    """The file at `path`, for its owner alone. A file that cannot be read is kept beside, and counts as none:
    the control plane tells everything again, and what runs is found by its labels."""

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self) -> dict[str, Told]:
        """Application → what was told. Raises BackendUnreachable when the file is there and cannot be opened."""
        try:
            text = Path(self._path).read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except UnicodeDecodeError:
            return self._set_aside()
        except OSError as fault:
            raise _unusable(self._path, fault) from fault
        try:
            apps = json.loads(text)["apps"]
            return {app: Told.from_dict(app, data) for app, data in apps.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return self._set_aside()

    def write(self, told: dict[str, Told]) -> None:
        """All of it, at once or not at all. Raises BackendUnreachable when it cannot be written."""
        data = json.dumps({"apps": {app: one.to_dict() for app, one in told.items()}}, indent=1) + "\n"
        temporary = f"{self._path}.{os.getpid()}.{os.urandom(6).hex()}.tmp"
        try:
            Path(self._path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._path)
        except OSError as fault:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise _unusable(self._path, fault) from fault

    def _set_aside(self) -> dict[str, Told]:
        with contextlib.suppress(OSError):
            Path(self._path).replace(f"{self._path}.corrupt")
        return {}


def _unusable(path: str, fault: OSError) -> BackendUnreachable:
    """No fault of any model: nothing is concluded from it."""
    return BackendUnreachable(
        f"{path} cannot be used: {fault.strerror or fault}",
        hint="it holds what the launch backend was told: make room, or give it back to this user",
    )
