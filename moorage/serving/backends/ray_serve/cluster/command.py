"""How a head node is started: its command line and its environment, from values alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from moorage.catalog.engine_python import QUIET

__all__ = ["CLUSTER_VARIABLE", "Ports", "default_cpus", "start_command", "start_environment"]

CLUSTER_VARIABLE = "MOORAGE_RAY_CLUSTER"
"""Marks the process that leads a cluster, for as long as it lives: `RECORD#ID`, the record's file and the id in it."""

KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|LD_LIBRARY_PATH|(?:https?|no|all)_proxy|SSL_CERT_\w+|REQUESTS_CA_BUNDLE"
    r"|(?:CUDA|NVIDIA|NCCL|HF|HUGGINGFACE|VLLM|OMP|MKL|TORCH|TORCHDYNAMO|RAY)_\w+|XDG_CACHE_HOME",
    re.IGNORECASE,
)
"""What models may know of our environment: nothing that could be a secret of the control plane's."""
DROPPED = frozenset(("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_TMPDIR", "RAY_JOB_ID"))
OBJECT_STORE_BYTES = 256 << 20
"""Replies pass through it when they are large; weights never do."""
CPUS_PER_CORE = 4
LEAST_CPUS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Those that Ray does not choose by itself, or not without a clash."""

    gcs: int
    dashboard: int
    client: int
    agent: int


def start_command(python: str, ports: Ports, temp_dir: str, *, num_cpus: int | None) -> Sequence[str]:
    """The process stays and leads the cluster. `num_cpus` None: as many as Ray finds."""
    words = [python, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    words += ["--port", str(ports.gcs), "--ray-client-server-port", str(ports.client)]
    words += ["--include-dashboard", "true", "--dashboard-host", "127.0.0.1", "--dashboard-port", str(ports.dashboard)]
    words += ["--dashboard-agent-listen-port", str(ports.agent)]
    # 0: any free ones. A range of Ray's own would overlap with ports of ours.
    words += ["--min-worker-port", "0", "--max-worker-port", "0"]
    words += ["--temp-dir", temp_dir, "--object-store-memory", str(OBJECT_STORE_BYTES)]
    words += [
        "--include-log-monitor",
        "false",
        "--disable-usage-stats",
        "--log-style",
        "record",
        "--log-color",
        "false",
    ]
    if num_cpus is not None:
        words += ["--num-cpus", str(num_cpus)]
    return words


def start_environment(environ: Mapping[str, str], *, mark: str, token_file: str, scratch: str) -> dict[str, str]:
    """Ray listens on every address of the machine, and who can speak to it can run code: so it asks for a token."""
    kept = {name: value for name, value in environ.items() if KEPT.fullmatch(name) and name not in DROPPED}
    return {
        **QUIET,
        **kept,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": token_file,
        "RAY_USAGE_STATS_ENABLED": "0",
        "TMPDIR": scratch,
        CLUSTER_VARIABLE: mark,
    }


def default_cpus(accelerator: str, cores: int) -> int | None:
    """Ray only counts CPUs. Where models run on them, small ones share cores; None: as many as there are."""
    return max(LEAST_CPUS, CPUS_PER_CORE * cores) if accelerator == "cpu" else None
