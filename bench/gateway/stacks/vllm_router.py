"""vLLM's own router, written in Rust."""

from __future__ import annotations

from dataclasses import replace

from bench.gateway.stacks.contract import Place, Running, free_port, run_stack
from bench.gateway.stacks.environment import ensure_environment, version_of

__all__ = ["start"]

REQUIREMENT = "vllm-router==0.1.17"


def start(place: Place, *, install: bool) -> Running:
    environment = ensure_environment("vllm-router", REQUIREMENT, install=install)
    port = free_port()
    argv = [
        str(environment / "bin" / "vllm-router"),
        *("--host", "127.0.0.1", "--port", str(port)),
        *("--worker-urls", place.upstream),
        *("--policy", "round_robin", "--log-level", "error"),
        *("--prometheus-port", str(free_port()), "--prometheus-host", "127.0.0.1"),
    ]
    running = run_stack(argv, place, port, ready="/health", within_s=60)
    return replace(running, version=version_of(environment, "vllm-router"))
