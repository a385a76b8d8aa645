"""The first minute: install an engine if there is none, serve a tiny model, ask it, stop it."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from moorage.catalog.engine_python import has_nvidia_gpu
from moorage.launch.engine_install import ensure_engine
from moorage.launch.plan import StartRequest
from moorage.launch.plane import Plane
from moorage.launch.platforms.base import Report
from moorage.launch.request import ChatRequest, prepare, send
from moorage.launch.start import start
from moorage.launch.stop import stop

SAMPLING = {"max_tokens": "96", "temperature": "0", "top_p": "1"}
PARSERS = ("--reasoning-parser", "qwen3", "--enable-auto-tool-choice", "--tool-call-parser", "hermes")
"""nano thinks before it answers, and calls tools as Hermes does."""

PHASE_NAMES = {"wait": "load", "launch": "start", "pull": "install"}
"""What a person calls the phases that the use cases report."""


def quickstart(plane: Plane, prompts: Sequence[str], report: Report, *, keep: bool) -> dict[str, Any]:
    """Do it all; what was asked and answered, how long each phase took, and what to type next."""
    phases = _Phases(report)
    phases("install", "looking for the vLLM environment")
    gpu = has_nvidia_gpu(plane.environ)
    ensure_engine("vllm", gpu=gpu, environ=plane.environ, root=plane.catalog.root, report=phases)
    model = plane.catalog.root / "models" / "nano"
    wanted = StartRequest(network_arch="vllm", model_path=str(model), extra_arguments=PARSERS)
    entry = start(plane, wanted, phases)
    try:
        phases("ready", f"{entry['host_url']}/v1/chat/completions")
        asked = [{"prompt": text, "answer": _ask(plane, entry["job_id"], text, phases)} for text in prompts]
    finally:
        if not keep:
            phases("stop", f"job_id={entry['job_id']}")
            stop(plane, entry)
    phases.close()
    return {
        "prompt": asked[0]["prompt"],
        "answer": asked[0]["answer"],
        "asked": asked,
        "job_id": entry["job_id"],
        "url": f"{entry['host_url']}/v1/chat/completions",
        "model": str(model),
        "kept": keep,
        "phases_s": phases.seconds,
        "next": [f"{_moor(plane)} {words}" for words in _next(entry["job_id"], model, keep=keep)],
    }


def _ask(plane: Plane, job_id: str, prompt: str, report: Report) -> str:
    report("ask", prompt)
    wanted = ChatRequest(job_id=job_id, prompt=prompt, texts=SAMPLING)
    reply = send(plane, wanted, prepare(plane, wanted, report, ask=None), report)
    return str(reply["content"] or "").strip()


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
    parsers = shlex.join(PARSERS)
    return [f"start --network-arch vllm --model-path {shlex.quote(str(model))} -- {parsers}", "list", "archs"]
