"""`moor serve down`: everything of it ends, whatever state it is in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from moorage.errors import MoorageError
from moorage.launch.platforms.base import Report
from moorage.launch.processes import is_alive
from moorage.serving.backends.launch.opening import end_launched
from moorage.serving.backends.ray_serve.opening import end_local_cluster
from moorage.serving.config_file import read_config
from moorage.serving.settings import Config, Settings
from moorage.serving.up.parts import end_leftovers, end_parts
from moorage.serving.up.place import Place
from moorage.serving.up.record import Choices, Record, read_record

__all__ = ["end_backend", "take_down"]


def take_down(place: Place, environ: Mapping[str, str], report: Report) -> list[str]:
    """End the gateway, the API, and what the backend runs; what was ended, in words. Nothing up is no fault.

    What was declared stays in the store, and is served again after the next `up`. Raises FailedError when something
    stays; the next call tries again.
    """
    if not place.folder.is_dir():
        return []
    with place.alone(report):
        record = read_record(place)
        ended = _end_parts(record, report)
        if record is not None:
            ended += end_backend(place, record.choices, environ, report)
        else:  # the record is lost: whichever it was
            for backend in ("launch", "ray_serve"):
                ended += end_backend(place, Choices(backend=backend, root=str(place.root)), environ, report)
        left = end_leftovers(place)
        if left:
            ended.append(f"{left} processes that nothing was written down of")
        place.record.unlink(missing_ok=True)
    return ended


def end_backend(place: Place, choices: Choices, environ: Mapping[str, str], report: Report) -> list[str]:
    """End what a control plane that runs no more has left running: its replicas, its Ray cluster."""
    settings = Settings(
        backend=choices.backend,
        host=choices.host,
        port=choices.port,
        root=Path(choices.root),
        db=place.db,
        config=_config(place, choices),
    )
    if choices.backend == "launch":
        report("down", "ending the replicas")
        replicas = end_launched(settings, environ, report)
        return [f"{len(replicas)} replica{'s' if len(replicas) > 1 else ''}"] if replicas else []
    if choices.backend == "ray_serve":
        report("down", "ending the Ray cluster")
        return ["the Ray cluster"] if end_local_cluster(settings, environ, time.time) else []
    return []


def _end_parts(record: Record | None, report: Report) -> list[str]:
    """The gateway first: it answers nothing more when the models go."""
    ended = []
    for name in ("gateway", "api"):
        identity = record.parts.get(name) if record is not None else None
        if identity is not None:
            if is_alive(identity):
                report("down", f"ending the {name}")
                ended.append(f"the {name}")
            end_parts([identity])
    return ended


def _config(place: Place, choices: Choices) -> Config:
    """As the API was told; the default where the file is no more, or is not what it was."""
    try:
        return read_config(Path(choices.config) if choices.config is not None else place.config)
    except MoorageError:
        return Config()
