"""moor serve api"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli.output import Output
from moorage.cli.parser import one_of
from moorage.errors import UsageError
from moorage.extras import package_missing
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    from moorage.serving.settings import Settings

SUMMARY = "The serving API: users declare models, and a reconciler has a backend serve them."

BACKENDS = ("ray_serve", "launch", "memory")
ADMIN_TOKEN_ENV = "MOORAGE_ADMIN_TOKEN"  # noqa: S105 - the name of a variable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backend", metavar="B", default="ray_serve", help=f"{', '.join(BACKENDS)} (ray_serve)")
    where = parser.add_argument_group("where")
    where.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    where.add_argument("--port", metavar="P", type=int, default=8080, help="0: any free one (8080)")
    where.add_argument("--root", metavar="DIR", type=Path, default=Path("/private"), help="of models (/private)")
    where.add_argument(
        "--db", metavar="URL", help="sqlite:///FILE or postgresql://… (serving-PORT.db in the user's data folder)"
    )
    who = parser.add_argument_group("who may come in: everybody shows a token")
    who.add_argument(
        "--admin-token-env", metavar="VAR", default=ADMIN_TOKEN_ENV, help=f"holds its token ({ADMIN_TOKEN_ENV})"
    )
    who.add_argument("--gateway-token-env", metavar="VAR", help="holds one that reads where requests go, and no more")
    told = parser.add_argument_group("what users are told")
    told.add_argument("--public-host", metavar="H", default="localhost", help="this machine's name (localhost)")
    told.add_argument("--inference-port", metavar="P", type=int, default=8000, help="where models answer (8000)")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--config", metavar="FILE", type=Path, help="YAML: limits, quotas, defaults of engines; docs/serving.md"
    )


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    heard: list[str] = []

    def listening(url: str) -> None:
        heard.append(url)
        out("listening", f"serving API on {url}", **{"port": int(url.rpartition(":")[2])})

    try:
        from moorage.catalog.bundle import bundle_root
        from moorage.serving.api.door import check_admin_token
        from moorage.serving.api.server import serve
        from moorage.serving.spec.kwargs import load_kwargs

        settings = _settings(args, plane.environ)
        admin_token = check_admin_token(args.admin_token_env, plane.environ.get(args.admin_token_env))
        gateway_token = None
        if args.gateway_token_env is not None:
            gateway_token = check_admin_token(args.gateway_token_env, plane.environ.get(args.gateway_token_env))
        if gateway_token == admin_token:
            raise UsageError("the gateway's token is the administrators': give it one of its own", code="bad_value")
        serve(
            settings,
            admin_token=admin_token,
            gateway_token=gateway_token,
            kwargs=load_kwargs(bundle_root(plane.environ)),
            environ=plane.environ,
            hidden=[name for name in (args.admin_token_env, args.gateway_token_env) if name is not None],
            listening=listening,
        )
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "the serving API needs its extra", "serve") from fault
    return {"url": heard[-1] if heard else None}


def show(data: dict[str, Any], out: Output) -> None:
    out.line(f"stopped {data['url']}")


def _settings(args: argparse.Namespace, environ: Mapping[str, str]) -> Settings:
    from moorage.serving.config_file import read_config
    from moorage.serving.settings import Config, Settings

    one_of("--backend", args.backend, BACKENDS)
    for flag, port, least in (("--port", args.port, 0), ("--inference-port", args.inference_port, 1)):
        if not least <= port <= 65535:
            raise UsageError(f"{flag} {port}: between {least} and 65535", code="bad_value")
    if not args.public_host or not all("!" <= one <= "~" and one not in "/?#@[]" for one in args.public_host):
        raise UsageError(f"--public-host {args.public_host!r} is no host name or address", code="bad_value")
    return Settings(
        backend=args.backend,
        host=args.host,
        port=args.port,
        root=args.root.absolute(),
        db=args.db or f"sqlite:///{_data_folder(environ) / f'serving-{args.port}.db'}",
        public_host=args.public_host,
        inference_port=args.inference_port,
        config=read_config(args.config) if args.config is not None else Config(),
    )


def _data_folder(environ: Mapping[str, str]) -> Path:
    home = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local" / "share")
    folder = Path(home) / "moorage"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
