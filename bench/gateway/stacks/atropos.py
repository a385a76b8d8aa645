"""The session proxy of Atropos."""

from __future__ import annotations

import json
from dataclasses import replace

from bench.gateway.replies import MODEL
from bench.gateway.stacks.contract import Place, Running, free_port, run_stack
from bench.gateway.stacks.environment import ensure_environment, version_of

__all__ = ["start"]

REQUIREMENT = "atroposlib==0.4.0"
PROGRAM = "atroposlib.envs.server_handling.managed_server_proxy"


def start(place: Place, *, install: bool) -> Running:
    environment = ensure_environment("atropos", REQUIREMENT, install=install)
    port = free_port()
    place.folder.mkdir(parents=True, exist_ok=True)
    server = {"base_url": f"{place.upstream}/v1", "server_type": "vllm", "api_key": "none"}
    config = place.folder / "servers.json"
    config.write_text(json.dumps({"model_name": MODEL, "tokenizer_name": str(place.model), "servers": [server]}))
    argv = [
        *(str(environment / "bin" / "python"), "-m", PROGRAM),
        *("--config", str(config), "--host", "127.0.0.1", "--port", str(port)),
    ]
    env = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "PYTHONDONTWRITEBYTECODE": ""}
    running = run_stack(argv, place, port, ready="/health", within_s=180, env=env)
    return replace(running, version=version_of(environment, "atroposlib"))
