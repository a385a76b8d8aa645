"""moor gateway"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli.amounts import age_s, size_bytes
from moorage.cli.output import Output
from moorage.cli.parser import one_of, positive_duration_s
from moorage.cli.reward_flags import add_reward_arguments, rewards_of
from moorage.errors import PreflightError, UsageError
from moorage.extras import package_missing
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    import socket

    from moorage.engines.fleet.endpoint import Endpoint
    from moorage.gateway.settings import Settings
    from moorage.gateway.workers.member import Member

SUMMARY = "One address in front of engines that records every token as it was sampled."

MOST_WORKERS = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    where.add_argument("--port", type=int, default=8100, help="0: any free one (8100)")
    where.add_argument(
        "--db", metavar="URL", help="sqlite:///FILE or postgresql://… (gateway-PORT.db in the user's data folder)"
    )
    who = parser.add_argument_group("who may come in")
    who.add_argument("--auth", metavar="HOW", default="auto", help="keys, none, or auto: keys but on loopback (auto)")
    who.add_argument("--tls-cert", metavar="FILE", type=Path, help="PEM, the whole chain: https; SIGHUP reads it again")
    who.add_argument("--tls-key", metavar="FILE", type=Path, help="its private key, PEM without a passphrase")
    where.add_argument("--workers", metavar="N", type=_positive, default=1, help="processes that share the port (1)")
    whom = parser.add_argument_group("whom to ask: one of")
    whom.add_argument("--upstream", metavar="URL[,URL]", help="engines, with or without /v1")
    whom.add_argument("--servers", metavar="FILE", type=Path, help="a servers file as Atropos has it, JSON")
    whom.add_argument("--registry", action="store_true", help="the services that moor started (the default)")
    whom.add_argument("--serving", metavar="URL", help="the models that moor serve api at URL says are declared")
    whom.add_argument("--serving-token-env", metavar="VAR", help="the variable that holds the token for that API")
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
    how.add_argument("--retain-age", metavar="D", type=age_s, help="let go what is done and older: 30d (never)")
    how.add_argument("--retain-bytes", metavar="N", type=size_bytes, help="let the oldest go beyond it: 50G (never)")
    how.add_argument("--session-ttl", metavar="S", type=positive_duration_s, help="end sessions idle for longer")
    how.add_argument("--max-sessions", metavar="N", type=_positive, default=100_000, help="open at once (100000)")
    how.add_argument("--max-body-bytes", metavar="N", type=_positive, default=64 << 20, help="of a request (64 MiB)")
    limits = parser.add_argument_group("how much, how long")
    limits.add_argument("--max-concurrency", metavar="N", type=_positive, help="model calls at once (any number)")
    limits.add_argument("--max-connections", metavar="N", type=_positive, default=20_000, help="open at once (20000)")
    for flag, default, what in (
        ("--client-timeout", 30.0, "for a client to send, or to take a reply"),
        ("--idle-timeout", 75.0, "of a connection without a request"),
        ("--drain-s", 30.0, "for requests in flight at the end"),
    ):
        limits.add_argument(flag, metavar="S", type=positive_duration_s, default=default, help=f"{what} ({default:g})")
    how.add_argument("--escape-special", action="store_true", help="special tokens in a user's words are plain text")
    how.add_argument("--compat", metavar="claw", help="claw: accept unknown trajectories, as Claw-R1 does")
    how.add_argument("--reply", metavar="full", help="full: leave ids that only the gateway asked for in replies")
    how.add_argument("--allow-dummy", action="store_true", help="sessions of engines without ids: marked placeholders")
    how.add_argument("--access-log", action="store_true", help="a line for every request")
    add_reward_arguments(parser)


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    _check(args, plane.environ)
    from moorage.catalog.engine_python import find_engine_python

    heard: list[str] = []

    def listening(url: str) -> None:
        heard.append(url)
        out("listening", f"gateway on {url}", **{"port": int(url.rpartition(":")[2])})

    try:
        run_gateway = _serve if args.workers == 1 else _supervise
        settings, endpoints = _settings(args, plane), _endpoints(args, plane)
        run_gateway(settings, endpoints, find_engine_python("vllm", plane.environ), listening, args.workers)
    except ModuleNotFoundError as fault:
        raise _package_missing(fault) from fault
    return {"url": heard[-1] if heard else None}


def show(data: dict[str, Any], out: Output) -> None:
    out.line(f"stopped {data['url']}")


def store_url(given: str | None, port: int, environ: Mapping[str, str]) -> str:
    """`--db`, or the store of the gateway on that port."""
    return given or f"sqlite:///{_data_folder(environ) / f'gateway-{port}.db'}"


def _serve(
    settings: Settings,
    endpoints: list[Endpoint],
    parser_python: Path | None,
    listening: Callable[[str], None],
    workers: int,
) -> None:
    from moorage.gateway.server import serve

    del workers
    serve(settings, endpoints, parser_python=parser_python, listening=listening)


def _supervise(
    settings: Settings,
    endpoints: list[Endpoint],
    parser_python: Path | None,
    listening: Callable[[str], None],
    workers: int,
) -> None:
    """The parent imports little: what serves is imported by the workers."""
    from moorage.gateway.log import Log
    from moorage.gateway.workers.parent import supervise

    def work(member: Member, bound: socket.socket, ready: Callable[[str], None]) -> None:
        try:
            from moorage.gateway.server import serve_as_worker
        except ModuleNotFoundError as fault:
            raise _package_missing(fault) from fault
        serve_as_worker(member, bound, settings, endpoints, parser_python=parser_python, listening=ready)

    supervise(
        work,
        host=settings.host,
        port=settings.port,
        count=workers,
        drain_s=settings.drain_s,
        reloads=settings.tls_cert is not None,
        log=Log(),
        listening=listening,
    )


def _package_missing(fault: ModuleNotFoundError) -> PreflightError:
    return package_missing(fault.name, "the gateway needs its extra", "gateway")


def _check(args: argparse.Namespace, environ: Mapping[str, str]) -> None:
    for flag, value, known in (
        ("--mode", args.mode, ("exact", "passthrough")),
        ("--compat", args.compat, ("claw",)),
        ("--reply", args.reply, ("full",)),
        ("--auth", args.auth, ("auto", "keys", "none")),
    ):
        if value is not None:
            one_of(flag, value, known)
    if (args.tls_cert is None) != (args.tls_key is None):
        raise UsageError("--tls-cert and --tls-key: give both, or neither")
    given = [flag for flag in ("upstream", "servers", "registry", "serving") if getattr(args, flag)]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]}: give one of them")
    _check_serving(args, environ)
    if args.workers > MOST_WORKERS:
        raise UsageError(f"--workers {args.workers}: {MOST_WORKERS} at most", code="bad_value")
    if not 0 <= args.port <= 65535:
        raise UsageError(f"--port {args.port}: between 0 and 65535", code="bad_value")
    if args.retain_age is not None or args.retain_bytes is not None:
        from moorage.pool.contract import Retention
        from moorage.pool.retention import check_retention

        check_retention(Retention(older_than_s=args.retain_age, max_bytes=args.retain_bytes))


def _check_serving(args: argparse.Namespace, environ: Mapping[str, str]) -> None:
    if args.serving is None:
        if args.serving_token_env is not None:
            raise UsageError("--serving-token-env is for --serving: give the API's address too")
        return
    from moorage.engines.wire.origin import Origin
    from moorage.gateway.serving.follower import token_of

    try:
        Origin.parse(args.serving)
    except UsageError as fault:
        raise UsageError(
            f"--serving: {fault.message}", code=fault.code, hint="for example http://127.0.0.1:8080"
        ) from None
    token_of(args.serving_token_env, environ)


def _settings(args: argparse.Namespace, plane: Plane) -> Settings:
    from moorage.gateway.settings import Settings

    return Settings(
        host=args.host,
        port=args.port,
        db=store_url(args.db, args.port, plane.environ),
        mode=args.mode,
        tokenizer_path=args.tokenizer_path,
        response_length=args.response_length,
        prompt_length=args.prompt_length,
        n_rollouts=args.n_rollouts,
        upstream_timeout_s=args.upstream_timeout,
        pool_max_attempts=args.pool_max_attempts,
        retain_age_s=args.retain_age,
        retain_bytes=args.retain_bytes,
        compat_claw=args.compat == "claw",
        full_reply=args.reply == "full",
        escape_special=args.escape_special,
        session_ttl_s=args.session_ttl,
        max_sessions=args.max_sessions,
        max_body_bytes=args.max_body_bytes,
        max_concurrency=args.max_concurrency,
        max_connections=args.max_connections,
        client_timeout_s=args.client_timeout,
        idle_timeout_s=args.idle_timeout,
        drain_s=args.drain_s,
        allow_dummy=args.allow_dummy or _allows_dummy(plane.environ),
        access_log=args.access_log,
        rewards=rewards_of(args),
        auth=args.auth,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        serving_url=args.serving,
        serving_token_env=args.serving_token_env,
    )


def _endpoints(args: argparse.Namespace, plane: Plane) -> list[Endpoint]:
    from moorage.engines.fleet import servers_file, upstreams

    if args.serving:
        return []  # the API says which there are
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


def _allows_dummy(environ: Mapping[str, str]) -> bool:
    """As Atropos has it."""
    return environ.get("ATROPOS_ALLOW_DUMMY_MANAGED_SERVER", "").lower() in ("1", "true", "yes")


def _data_folder(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local" / "share")
    folder = Path(home) / "moorage"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1")
    return int(text)
