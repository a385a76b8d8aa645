"""A container image for real vLLM without a registry: empty, with this machine's own userland mounted into it.

The engine's environment refers to this machine's Python and libraries by their paths, so the container gets the same
folders at the same places, read-only.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from moorage.catalog.engine_python import engine_environment
from tests.real.parts.container_image import LABEL
from tests.real.parts.docker_engine import DockerEngine

FOLDERS = ("tmp", "proc", "dev", "sys", "etc", "root", "usr", "run")
LINKS = ("bin", "sbin", "lib", "lib64")
"""Debian's merged /usr: these are links into it."""


@dataclass(frozen=True)
class VllmImage:
    """The image, and the mounts that it needs."""

    name: str
    mounts: tuple[str, ...]

    def flags(self) -> list[str]:
        """For `moor start`."""
        return [word for mount in self.mounts for word in ("--mount", mount)]


def load_vllm_image(engine: DockerEngine, python: Path) -> VllmImage:
    """Make the image in `engine` for the environment that `python` belongs to."""
    name = f"moorage-test/vllm:{uuid.uuid4().hex[:12]}"
    environment = python.parent.parent
    wanted = engine_environment("vllm", python, gpu=False, environ={"PATH": "/usr/local/bin:/usr/bin:/bin"})
    changes = [f"ENV {key}={value}" for key, value in {**wanted, "HOME": "/tmp"}.items()]
    changes.append(f"LABEL {LABEL}={os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="moor-image-") as folder:
        whole = Path(folder) / "image.tar"
        _write_tar(whole)
        engine.docker("import", *[word for change in changes for word in ("--change", change)], "-", name, stdin=whole)
    places = {"/usr", str(environment), _base_prefix(python)}
    outer = [place for place in sorted(places) if not any(place.startswith(f"{other}/") for other in places)]
    return VllmImage(name, tuple(f"{place}:{place}:ro" for place in outer))


def _write_tar(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name in FOLDERS:
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        for name in LINKS:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for file in ("/etc/passwd", "/etc/group"):
            tar.add(file, file.lstrip("/"))


def _base_prefix(python: Path) -> str:
    """The Python that the environment was made from."""
    asked = [str(python), "-c", "import sys; print(sys.base_prefix)"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
