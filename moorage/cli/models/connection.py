"""Which serving API is asked, and with whose token."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING

from moorage.extras import package_missing

if TYPE_CHECKING:
    from moorage.client.serving.client import ServingClient
    from moorage.serving.up.record import Record

__all__ = ["ADMIN_TOKEN_ENV", "PATIENCE_S", "TOKEN_ENV", "add_where", "connect"]

API_ENV = "MOORAGE_SERVING_URL"
TOKEN_ENV = "MOORAGE_SERVING_TOKEN"  # noqa: S105 - the name of a variable
ADMIN_TOKEN_ENV = "MOORAGE_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
DEFAULT_API = "http://127.0.0.1:8080"
PATIENCE_S = 3.0
"""A command that is typed does not wait long for a server that is not there."""


def connect(
    args: argparse.Namespace,
    environ: Mapping[str, str],
    *,
    patience_s: float = PATIENCE_S,
    as_admin: bool = False,
) -> ServingClient:
    """The client of `--api` and `--token-env`; without them, of the control plane that `moor serve up` started here.

    Raises PreflightError when its packages are not installed, or when the variable that was named is not set.
    """
    try:
        from moorage.client.serving.client import ServingClient
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "the serving API's client needs an extra", "client") from fault
    default_env = ADMIN_TOKEN_ENV if as_admin else TOKEN_ENV
    url, here = args.api or environ.get(API_ENV), _started_here(environ)
    is_named = bool(args.token_env or environ.get(default_env))
    if url is None:
        url = DEFAULT_API if here is None else here.choices.api_url
    token = None
    if here is not None and url.rstrip("/") == here.choices.api_url and not is_named:
        token = _kept_token(environ, "admin" if as_admin else "user")
    return ServingClient(
        url, token=token, token_env=args.token_env or default_env, patience_s=patience_s, environ=environ
    )


def add_where(parser: argparse.ArgumentParser, default_env: str) -> None:
    """`--api` and `--token-env`."""
    where = parser.add_argument_group("where")
    where.add_argument("--api", metavar="URL", help=f"the serving API ({API_ENV}, else {DEFAULT_API})")
    where.add_argument("--token-env", metavar="VAR", help=f"the variable that holds the token ({default_env})")


def _started_here(environ: Mapping[str, str]) -> Record | None:
    """The control plane that `moor serve up` started, while its API runs; None: there is none."""
    from moorage.launch.processes import is_alive
    from moorage.serving.up.place import Place
    from moorage.serving.up.record import read_record

    record = read_record(Place(environ))
    api = record.parts.get("api") if record is not None else None
    return record if api is not None and is_alive(api) else None


def _kept_token(environ: Mapping[str, str], whose: str) -> str | None:
    """Its token, of the file that it keeps for its owner alone: shown to nobody else."""
    from moorage.serving.up.place import Place

    return Place(environ).token(whose)
