"""`moor serve status`: what runs and answers now, asked and not remembered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moorage.client.serving.client import ServingClient
from moorage.errors import MoorageError
from moorage.launch.processes import is_alive
from moorage.serving.up.asking import answers
from moorage.serving.up.parts import leftovers
from moorage.serving.up.place import Place
from moorage.serving.up.record import Record, read_record

__all__ = ["look"]

PARTS = ("api", "gateway")


def look(place: Place) -> dict[str, Any]:
    """`state`: `up` (both parts answer), `partial` (something of it runs), `down`; with parts, models and backend."""
    record = read_record(place)
    left = leftovers(place)
    if record is None:
        return {
            "state": "partial" if left else "down",
            "folder": str(place.folder),
            "parts": [],
            "models": None,
            "serving": None,
            "left_processes": left,
        }
    parts = [_part(place, record, name) for name in PARTS]
    up = all(part["state"] == "answers" for part in parts)
    some = bool(left) or any(part["state"] != "dead" for part in parts)
    serving, models = _asked(place, record) if parts[0]["state"] == "answers" else (None, None)
    return {
        "state": "up" if up else "partial" if some else "down",
        "folder": str(place.folder),
        "backend": record.choices.backend,
        "api_url": record.choices.api_url,
        "openai_base_url": f"{record.choices.inference_url}/v1",
        "parts": parts,
        "models": models,
        "serving": serving,
        "left_processes": [] if up else left,
    }


def _part(place: Place, record: Record, name: str) -> dict[str, Any]:
    choices = record.choices
    url = choices.api_url if name == "api" else choices.inference_url
    identity = record.parts.get(name)
    alive = identity is not None and is_alive(identity)
    state = "dead" if not alive else "answers" if answers(url, name) else "silent"
    return {
        "name": name,
        "state": state,
        "pid": identity.pid if identity is not None and alive else None,
        "url": url,
        "log": str(place.log(name)),
    }


def _asked(place: Place, record: Record) -> tuple[Mapping[str, Any] | None, list[dict[str, Any]] | None]:
    """What the API says of the control plane, and of the first user's models; None: it does not say."""
    admin, user = place.token("admin"), place.token("user")
    serving: Mapping[str, Any] | None = None
    models: list[dict[str, Any]] | None = None
    try:
        if admin is not None:
            with ServingClient(record.choices.api_url, token=admin, patience_s=3.0) as client:
                serving = client.status()
        if user is not None:
            with ServingClient(record.choices.api_url, token=user, patience_s=3.0) as client:
                models = [_model(model.raw) for model in client.models()]
    except MoorageError:
        return serving, models
    return serving, models


def _model(raw: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("model_key", "model_id", "model_alias", "state", "num_replicas", "error_summary")
    return {key: raw.get(key) for key in keys}
