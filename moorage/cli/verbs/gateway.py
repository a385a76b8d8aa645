"""moor gateway"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli.output import Output
from moorage.cli.parser import one_of, positive_duration_s
from moorage.errors import PreflightError, UsageError
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    from moorage.engines.fleet.endpoint import Endpoint
    from moorage.gateway.settings import Settings

SUMMARY = "One address in front of engines that records every token as it was sampled."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    where.add_argument("--port", type=int, default=8100, help="0: any free one (8100)")
    where.add_argument("--db", metavar="URL", help="sqlite:///FILE (gateway-PORT.db in the user's data folder)")
    whom = parser.add_argument_group("whom to ask: one of")
    whom.add_argument("--upstream", metavar="URL[,URL]", help="engines, with or without /v1")
    whom.add_argument("--servers", metavar="FILE", type=Path, help="a servers file as Atropos has it, JSON")
    whom.add_argument("--registry", action="store_true", help="the services that moor started (the default)")
    how = parser.add_argument_group("how")
    how.add_argument("--tokenizer-path", metavar="DIR", type=Path, help="the model's tokenizer, for exact sessions")
    how.add_argument("--mode", help="exact or passthrough, of sessions that do not say (exact with a tokenizer)")
    how.add_argument("--response-length", metavar="N", type=_positive, help="max_tokens where a request has none")
    how.add_argument("--prompt-length", metavar="N", type=_positive, help="cut longer prompts from the left")
    how.add_argument("--n-rollouts", metavar="N", type=_positive, default=1, help="trajectories of a ready group (1)")
    how.add_argument("--pool-max-attempts", metavar="N", type=_positive, default=5, help="deliveries of a group (5)")
    how.add_argument(
        "--upstream-timeout", metavar="S", type=positive_duration_s, default=600.0, help="seconds of silence (600)"
    )
    how.add_argument("--session-ttl", metavar="S", type=positive_duration_s, help="end sessions idle for longer")
    how.add_argument("--max-sessions", metavar="N", type=_positive, default=100_000, help="open at once (100000)")
    how.add_argument("--max-body-bytes", metavar="N", type=_positive, default=64 << 20, help="of a request (64 MiB)")
    how.add_argument("--escape-special", action="store_true", help="special tokens in a user's words are plain text")
    how.add_argument("--compat", metavar="claw", help="claw: accept unknown trajectories, as Claw-R1 does")
    how.add_argument("--reply", metavar="full", help="full: leave ids that only the gateway asked for in replies")
    how.add_argument("--access-log", action="store_true", help="a line for every request")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    _check(args)
    try:
        from moorage.gateway.server import serve
    except ModuleNotFoundError as fault:
        raise PreflightError(
            f"the Python package {fault.name!r} is not installed: the gateway needs its extra",
            code="package_missing",
            next=["pip install 'moorage[gateway]'"],
        ) from fault
    from moorage.catalog.engine_python import find_engine_python

    heard: list[str] = []

    def listening(url: str) -> None:
        heard.append(url)
        out("listening", f"gateway on {url}", **{"port": int(url.rpartition(":")[2])})

    serve(
        _settings(args, plane),
        _endpoints(args, plane),
        parser_python=find_engine_python("vllm", plane.environ),
        listening=listening,
    )
    return {"url": heard[-1] if heard else None}


def show(data: dict[str, Any], out: Output) -> None:
    out.line(f"stopped {data['url']}")


def _check(args: argparse.Namespace) -> None:
    for flag, value, known in (
        ("--mode", args.mode, ("exact", "passthrough")),
        ("--compat", args.compat, ("claw",)),
        ("--reply", args.reply, ("full",)),
    ):
        if value is not None:
            one_of(flag, value, known)
    given = [flag for flag in ("upstream", "servers", "registry") if getattr(args, flag)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]}: give one of them")
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port {args.port}: between 0 and 65535", code="bad_value")


def _settings(args: argparse.Namespace, plane: Plane) -> Settings:
    from moorage.gateway.settings import Settings

    return Settings(
        host=args.host,
        port=args.port,
        db=args.db or f"sqlite:///{_data_folder(plane.environ) / f'gateway-{args.port}.db'}",
        mode=args.mode,
        tokenizer_path=args.tokenizer_path,
        response_length=args.response_length,
        prompt_length=args.prompt_length,
        n_rollouts=args.n_rollouts,
        upstream_timeout_s=args.upstream_timeout,
        pool_max_attempts=args.pool_max_attempts,
        compat_claw=args.compat == "claw",
        full_reply=args.reply == "full",
        escape_special=args.escape_special,
        session_ttl_s=args.session_ttl,
        max_sessions=args.max_sessions,
        max_body_bytes=args.max_body_bytes,
        access_log=args.access_log,
    )


def _endpoints(args: argparse.Namespace, plane: Plane) -> list[Endpoint]:
    from moorage.engines.fleet import servers_file, upstreams

    if args.upstream:
        return upstreams.from_urls(args.upstream)
    if args.servers:
        return servers_file.read_servers(args.servers)
    found = upstreams.from_entries(
        plane.registry.read().services.values(), key_of=lambda entry: _key_of(entry, plane.environ)
    )
    if not found:
        raise UsageError(
            "no service of this registry can be asked",
            code="no_upstream",
            hint="name an engine with --upstream, or start one",
            next=["moor gateway --upstream http://127.0.0.1:8080", "moor start --network-arch vllm --model-path PATH"],
        )
    return found


def _key_of(entry: Mapping[str, Any], environ: Mapping[str, str]) -> str | None:
    """The key of a service that wants one. Raises PreflightError when it is nowhere."""
    from moorage.launch.service_key import service_key

    return service_key(entry["token_env"], environ, make=False) if entry.get("token_env") else None


def _data_folder(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local" / "share")
    folder = Path(home) / "moorage"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1")
    return int(text)
