"""Stock vLLM that serves the tiny trained model, for tests that speak to an engine itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from moorage.engines.fleet.fleet import Fleet
from moorage.engines.fleet.upstreams import from_urls
from tests.real.parts.nano_b import NANO

__all__ = ["serving_nano"]

ENGINE = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_USE_AOT_COMPILE": "0",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
FLAGS = ("--max-model-len", "2048", "--max-num-seqs", "16", "--enforce-eager", "--num-gpu-blocks-override", "512")
PARSERS = ("--enable-auto-tool-choice", "--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
START_WITHIN_S = 400


@contextlib.contextmanager
def serving_nano(vllm_python: Path, folder: Path) -> Iterator[str]:
    """Its URL, with token-in-token-out open; its log lies in `folder`."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    log = folder / "vllm.log"
    command = [str(vllm_python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(NANO)]
    command += ["--served-model-name", "nano", "--host", "127.0.0.1", "--port", str(port), *FLAGS, *PARSERS]
    with log.open("w") as out:
        engine = subprocess.Popen(
            [*command, "--enable-scale-out"],
            env={**os.environ, **ENGINE},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}/v1"
    try:
        asyncio.run(until_healthy(url, engine, log))
        yield url
    finally:
        os.killpg(engine.pid, signal.SIGTERM)
        engine.wait(60)


async def until_healthy(url: str, engine: subprocess.Popen[bytes], log: Path) -> None:
    """The fleet's own view of it."""
    fleet = Fleet(from_urls(url), clock=time.monotonic, silence_s=30)
    await fleet.start()
    deadline = time.monotonic() + START_WITHIN_S
    while not (fleet.states()[0].healthy and fleet.states()[0].served):
        assert engine.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        await asyncio.sleep(0.2)
    await fleet.close()
