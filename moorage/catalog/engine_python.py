"""Where an engine's Python is, and the environment it runs with.

Engines live in virtual environments of their own under the user's cache folder and are reached by their Python alone:
this package never imports them. `launch.engine_install` makes these environments; here they are only looked up, with
the standard library and a few file look-ups, since every start of a local process and `moor doctor` come through.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from moorage.errors import PreflightError

MARKER = "moorage-environment.json"
"""Written last into an environment: one without it is half made."""

QUIET = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
"""No usage statistics are sent from a user's machine."""

VLLM_ON_A_CPU = {
    # GiB, a whole number. vLLM's own default is most of the machine's memory; the cache is filled with zeros at start.
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # Without a compiler the first request that asks for log probabilities waits some 16 s for one function. The
    # ahead-of-time path must go too: it refuses to start when the compiler is off.
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_USE_AOT_COMPILE": "0",
}
"""What a stock `vllm-cpu` needs beyond its command line, found by starting one with less."""

NVIDIA_SMI_TIMEOUT_S = 10.0


def engine_home(engine: str, environ: Mapping[str, str]) -> Path:
    """The folder of the environment that Moorage makes for an engine, whether it exists or not."""
    cache = environ.get("XDG_CACHE_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".cache")
    return Path(cache).absolute() / "moorage" / "engines" / engine


def python_variable(engine: str) -> str:
    """The variable that names a Python of the user's own: `MOORAGE_VLLM_PYTHON`."""
    return f"MOORAGE_{engine.upper()}_PYTHON"


def find_engine_python(engine: str, environ: Mapping[str, str]) -> Path | None:
    """The Python to run an engine with: the user's own, else the one Moorage made; None when there is neither.

    Raises PreflightError when the user's variable is set to something that cannot be run.
    """
    variable = python_variable(engine)
    own = environ.get(variable)
    if own:
        # Not resolved: a virtual environment's python is a link, and only its place tells which environment it is.
        python = Path(own).expanduser().absolute()
        if python.is_file() and os.access(python, os.X_OK):
            return python
        raise PreflightError(
            f"{variable} is {own!r}, which is not a program that can be run",
            code="engine_python_unusable",
            hint=f"set it to the Python of an environment that has {engine}, or unset it",
            next=[f"unset {variable}"],
        )
    home = engine_home(engine, environ)
    python = home / "bin" / "python"
    return python if read_marker(home) is not None and os.access(python, os.X_OK) else None


def read_marker(home: Path) -> dict[str, Any] | None:
    """What was installed into an environment, as its maker noted it; None when it is absent or half made."""
    try:
        marker = json.loads((home / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return marker if isinstance(marker, dict) else None


def has_nvidia_gpu(environ: Mapping[str, str], *, devices: Path = Path("/dev")) -> bool:
    """Whether an engine started with this environment would see an NVIDIA GPU.

    The driver makes one `nvidia<N>` device for each GPU. Under WSL there is none, only `dxg` for every kind of GPU, so
    there `nvidia-smi` is asked. `CUDA_VISIBLE_DEVICES` empty or -1 hides them all.
    """
    if environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    if any(device.name[len("nvidia") :].isdecimal() for device in devices.glob("nvidia[0-9]*")):
        return True
    return (devices / "dxg").exists() and _nvidia_smi_lists_one(environ)


def engine_environment(
    engine: str,
    python: Path,
    gpu: bool,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """The variables to add to `environ` so that `python3 -m …` is the engine's Python and a stock start works.

    A variable that `environ` already has is the user's and is left out; but for PATH, which gets the engine's folder
    in front.
    """
    path = os.pathsep.join([str(python.parent), environ.get("PATH") or os.defpath])
    wanted = QUIET | (VLLM_ON_A_CPU if engine == "vllm" and not gpu else {})
    return {name: value for name, value in wanted.items() if name not in environ} | {"PATH": path}


def _nvidia_smi_lists_one(environ: Mapping[str, str]) -> bool:
    program = shutil.which("nvidia-smi", path=environ.get("PATH"))
    if program is None:
        return False
    try:
        listed = subprocess.run(
            [program, "-L"], stdin=subprocess.DEVNULL, capture_output=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and listed.stdout.lstrip().startswith(b"GPU ")
