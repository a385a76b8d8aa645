"""The first minute: install an engine if there is none, serve a tiny model, ask it, stop it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from moorage.catalog.engine_python import engine_home, has_nvidia_gpu
from moorage.errors import FailedError
from moorage.launch.engine_install import ensure_engine
from moorage.launch.plan import StartRequest
from moorage.launch.plane import Plane
from moorage.launch.platforms.base import Report
from moorage.launch.request import ChatRequest, prepare, send
from moorage.launch.start import start
from moorage.launch.stop import stop

SAMPLING = {"max_tokens": "64", "temperature": "0", "top_p": "1"}

PHASE_NAMES = {"wait": "load", "launch": "start", "pull": "install"}
"""What a person calls the phases that the use cases report."""


def quickstart(plane: Plane, prompt: str, report: Report, *, keep: bool) -> dict[str, Any]:
    """Do it all; what was asked and answered, how long each phase took, and what to type next."""
    phases = _Phases(report)
    phases("install", "looking for the vLLM environment")
    gpu = has_nvidia_gpu(plane.environ)
    python = ensure_engine("vllm", gpu=gpu, environ=plane.environ, root=plane.catalog.root, report=phases)
    model = _model(plane, python, phases)
    entry = start(plane, StartRequest(network_arch="vllm", model_path=str(model)), phases)
    try:
        phases("ready", f"{entry['host_url']}/v1/chat/completions")
        phases("ask", prompt)
        wanted = ChatRequest(job_id=entry["job_id"], prompt=prompt, texts=SAMPLING)
        reply = send(plane, wanted, prepare(plane, wanted, phases, ask=None), phases)
    finally:
        if not keep:
            phases("stop", f"job_id={entry['job_id']}")
            stop(plane, entry)
    phases.close()
    return {
        "prompt": prompt,
        "answer": reply["content"],
        "job_id": entry["job_id"],
        "url": f"{entry['host_url']}/v1/chat/completions",
        "model": str(model),
        "kept": keep,
        "phases_s": phases.seconds,
        "next": [f"{_moor(plane)} {words}" for words in _next(entry["job_id"], model, keep=keep)],
    }


class _Phases:
    """A report that measures: `install`, `start` (until the engine listens), `load`, `ready` and so on, in seconds."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._begun, self._phase = time.monotonic(), ""
        self.seconds: dict[str, float] = {}

    def __call__(self, phase: str, message: str, **numbers: float) -> None:
        name = PHASE_NAMES.get(phase, phase)
        if phase != "warning" and name != self._phase:
            self.close()
            self._phase = name
        self._report(name, message, **numbers)

    def close(self) -> None:
        """End the phase that runs."""
        now = time.monotonic()
        if self._phase:
            self.seconds[self._phase] = round(self.seconds.get(self._phase, 0.0) + now - self._begun, 1)
        self._begun, self._phase = now, ""


def _model(plane: Plane, python: Path, report: Report) -> Path:
    """`models/nano` of the checkout; without it a tiny random model, made once by the engine's own Python."""
    root = plane.catalog.root
    nano = root / "models" / "nano"
    if (nano / "config.json").exists():
        return nano
    script = root / "models" / "train" / "tiny_random.py"
    digest = sha256(script.read_bytes()).hexdigest()[:12]
    model = engine_home("vllm", plane.environ).parent.parent / "models" / f"tiny-random-{digest}"
    if (model / "config.json").exists():
        return model
    report("install", "making a tiny random model (its answers are noise)")
    made = subprocess.run([str(python), str(script), str(model)], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise FailedError("the tiny model could not be made", data={"log_tail": made.stderr.splitlines()[-20:]})
    return model


def _moor(plane: Plane) -> str:
    """How to type the command here: a checkout's own environment is seldom on PATH."""
    if shutil.which("moor", path=plane.environ.get("PATH")):
        return "moor"
    own = Path(sys.executable).parent / "moor"
    return str(own.relative_to(Path.cwd()) if own.is_relative_to(Path.cwd()) else own)


def _next(job_id: str, model: Path, *, keep: bool) -> list[str]:
    if keep:
        return [
            f'request --job-id {job_id} --prompt "Hello" --accept-defaults',
            f"logs {job_id} --tail 20",
            f"stop {job_id}",
        ]
    return [f"start --network-arch vllm --model-path {shlex.quote(str(model))}", "list", "archs"]
