"""LiteLLM's proxy with one worker and no database, as its package installs it."""

from __future__ import annotations

import json
from dataclasses import replace

from bench.gateway.replies import MODEL
from bench.gateway.stacks.contract import Place, Running, free_port, run_stack
from bench.gateway.stacks.environment import ensure_environment, version_of

__all__ = ["start"]

REQUIREMENT = "litellm[proxy]"


def start(place: Place, *, install: bool) -> Running:
    environment = ensure_environment("litellm", REQUIREMENT, install=install)
    port = free_port()
    place.folder.mkdir(parents=True, exist_ok=True)
    parameters = {"model": f"openai/{MODEL}", "api_base": f"{place.upstream}/v1", "api_key": "none"}
    config = place.folder / "config.yaml"
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": parameters}]}))
    argv = [
        *(str(environment / "bin" / "litellm"), "--config", str(config)),
        *("--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"),
    ]
    env = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
        # Without a key it has less to do; it would not start so otherwise.
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "PYTHONDONTWRITEBYTECODE": "",
    }
    running = run_stack(argv, place, port, ready="/health/liveliness", within_s=180, env=env)
    return replace(running, version=version_of(environment, "litellm"))
