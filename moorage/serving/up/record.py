"""What runs here and how it was told to: written down before anything is started."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from moorage.launch.processes import ProcessIdentity, identity_from
from moorage.serving.up.place import Place

__all__ = ["Choices", "Record", "read_record", "write_record"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What `moor serve up` was asked for."""

    backend: str = "ray_serve"
    host: str = "127.0.0.1"
    port: int = 8080
    inference_port: int = 8000
    root: str
    """An absolute path."""
    config: str | None = None
    """The user's own configuration file; None: one is made that says whether there are GPUs."""

    @property
    def near_host(self) -> str:
        """Where this machine reaches what listens on `host`."""
        return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - compared, not bound

    @property
    def api_url(self) -> str:
        return f"http://{self.near_host}:{self.port}"

    @property
    def inference_url(self) -> str:
        return f"http://{self.near_host}:{self.inference_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One machine's control plane, as it was started last."""

    choices: Choices
    parts: Mapping[str, ProcessIdentity] = field(default_factory=dict)
    """`api` and `gateway`."""
    model_key: str | None = None
    """Of the model that was declared; None: not yet."""


def read_record(place: Place) -> Record | None:
    """None when there is none, or none that can be read."""
    try:
        data = json.loads(place.record.read_text(encoding="utf-8"))
        parts = {name: identity_from(part) for name, part in data["parts"].items()}
        return Record(
            choices=Choices(**data["choices"]),
            parts={name: identity for name, identity in parts.items() if identity is not None},
            model_key=data.get("model_key"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_record(place: Place, record: Record) -> None:
    """Raises PreflightError when it cannot be written."""
    data: dict[str, Any] = {
        "choices": asdict(record.choices),
        "parts": {name: identity.as_field() for name, identity in record.parts.items()},
        "model_key": record.model_key,
    }
    place.write(place.record, json.dumps(data, indent=2) + "\n")
