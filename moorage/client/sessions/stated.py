"""Which servers a baseline or a list of configurations stands for."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from moorage.client.sessions.config import APIServerConfig, ServerBaseline
from moorage.errors import PreflightError, UsageError

__all__ = ["configs_of"]

LOCAL_PORTS = range(9004, 9008)
FIRST_PORT, GPUS_OF_A_NODE = 9000, 8


def configs_of(
    configs: ServerBaseline | Sequence[APIServerConfig] | APIServerConfig, environ: Mapping[str, str], *, slurm: bool
) -> list[APIServerConfig]:
    """A baseline stands for four local servers, or for those of a Slurm job's nodes after the training ones; so does
    the first of a list with `slurm`. Raises UsageError and PreflightError."""
    if isinstance(configs, APIServerConfig):
        configs = [configs]
    if isinstance(configs, ServerBaseline):
        urls = _of_nodes(environ) or [f"http://localhost:{port}/v1" for port in LOCAL_PORTS]
        fields = {name: value for name, value in configs.model_dump().items() if name != "server_type"}
        return [APIServerConfig(**fields, server_type=configs.server_type, base_url=url) for url in urls]
    given = list(configs)
    if not given:
        raise UsageError("there are no servers", code="bad_servers", hint="give one APIServerConfig, or proxy_url")
    urls = _of_nodes(environ) if slurm else []
    return [given[0].model_copy(update={"base_url": url}) for url in urls] or given


def _of_nodes(environ: Mapping[str, str]) -> list[str]:
    """The servers of a Slurm job of several nodes; empty: there is none."""
    nodelist = environ.get("SLURM_JOB_NODELIST")
    if not nodelist:
        return []
    try:
        told = subprocess.run(
            ["scontrol", "show", "hostnames", nodelist], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError) as fault:
        raise PreflightError(f"scontrol cannot say what nodes {nodelist!r} are: {fault}", code="no_scontrol") from None
    nodes = told.stdout.split()
    if len(nodes) < 2:
        return []
    training, per_server = _number(environ, "NUM_TRAINING_NODES", None), _number(environ, "INFER_TP", 1)
    ports = range(FIRST_PORT, FIRST_PORT + GPUS_OF_A_NODE // max(1, per_server))
    return [f"http://{node}:{port}/v1" for node in nodes[training:] for port in ports]


def _number(environ: Mapping[str, str], name: str, default: int | None) -> int:
    text = environ.get(name, "" if default is None else str(default))
    if not text.isdigit():
        raise UsageError(f"{name} is {text!r}: a whole number", code="bad_value", hint=f"export {name}")
    return int(text)
