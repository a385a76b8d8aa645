"""moor start"""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import duration_s, one_of, positive_duration_s
from moorage.cli.platform_flags import add_platform_flags, platform_options
from moorage.launch.plane import Plane
from moorage.launch.platforms import PLATFORMS

SUMMARY = "Start a service and wait until it is ready. Arguments after -- go to the server itself."
PULL_POLICIES = ("missing", "always", "never")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--network-arch", required=True, metavar="ARCH", help="what to serve with: moor archs lists them")
    add("--model-path", required=True, metavar="P", help="hf_model://org/model, or an absolute path there")
    add("--platform", default="local-process", metavar="X", help=f"{', '.join(PLATFORMS)} (default {PLATFORMS[0]})")
    add("--num-gpus", type=int, metavar="N", help="how many GPUs (default 1)")
    add("--gpus", metavar="none|IDS", help="which GPUs, as 0,1; none for an engine without one")
    add("--runtime", metavar="nvidia", help="container runtime for GPUs, as Tegra needs it (found by itself there)")
    add("--model-key", metavar="K", help="cosmos-predict2.5 with hf_model://: its registered model key")
    add("--mount", action="append", default=[], metavar="SRC:DST[:ro]", help="put a path into the container")
    add("--host-port", type=int, metavar="N", help="this port instead of the lowest free one")
    add("--job-id", metavar="UUID", help="this id instead of a new one")
    add("--pull", default="missing", metavar="missing|always|never", help="when to pull the image")
    add("--wait", type=duration_s, metavar="S", help="how long to wait until it is ready (default 1800)")
    add("--no-wait", action="store_true", help="return as soon as the platform accepted it")
    add("--ttl", type=positive_duration_s, metavar="D", help="stop it this long after its start")
    add("--idle-timeout", type=positive_duration_s, metavar="D", help="stop it when nobody used it this long")
    add("--dry-run", action="store_true", help="show the plan; start and write nothing")
    add_platform_flags(parser)


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.launch.plan import StartRequest, dry_run
    from moorage.launch.start import start

    request = StartRequest(
        network_arch=args.network_arch,
        model_path=args.model_path,
        platform=args.platform,
        num_gpus=args.num_gpus,
        gpus=args.gpus,
        runtime=one_of("--runtime", args.runtime, ("nvidia",)) if args.runtime else None,
        model_key=args.model_key,
        mounts=tuple(args.mount),
        host_port=args.host_port,
        job_id=args.job_id,
        pull=one_of("--pull", args.pull, PULL_POLICIES),
        wait_s=args.wait,
        no_wait=args.no_wait,
        ttl_s=args.ttl,
        idle_timeout_s=args.idle_timeout,
        extra_arguments=args.extra,
        options=platform_options(args),
    )
    if args.dry_run:
        plan, warnings = dry_run(plane, request)
        for warning in warnings:
            out("warning", warning)
        return {"plan": plan}
    return start(plane, request, out)


def show(data: dict[str, Any], out: Output) -> None:
    if "plan" in data:
        for name, value in data["plan"].items():
            out.line(f"{name:<13}{value if isinstance(value, str) else shlex.join(map(str, _flat(value)))}")
        return
    if data["state"] != "ready":
        out.line("Accepted; it is starting.")
    out.line("Inference service started.")
    out.line(f"  Job ID : {data['job_id']}")
    out.line(f"  Arch   : {data['network_arch']}")
    url = f"{data['host_url']}/v1/chat/completions" if data["host_url"] else "moor status tells it when it is known"
    out.line(f"  URL    : {url}")
    out.line(f'Ask it  : moor request --job-id {data["job_id"]} --prompt "What is 2+2?" --accept-defaults')
    out.line(f"Stop it : moor stop {data['job_id']}")


def _flat(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{name}={content}" for name, content in value.items()]
    return value if isinstance(value, list) else [str(value)]
