"""moor serve token"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli.models.connection import ADMIN_TOKEN_ENV, add_where, connect
from moorage.cli.output import Output, table
from moorage.cli.parser import one_of
from moorage.cli.verbs.serve_user import moment
from moorage.errors import UsageError
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    from moorage.client.serving.client import ServingClient
    from moorage.client.serving.values import NewToken

SUMMARY = "The tokens of a serving API's users, for its administrators."

ACTIONS = ("create", "list", "revoke")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="create|list|revoke", help="what to do")
    parser.add_argument("user", metavar="USER", help="whose")
    parser.add_argument("token_id", nargs="?", metavar="TOKEN_ID", help="revoke: which, as list shows it")
    parser.add_argument("--output", metavar="FILE", type=Path, help="create: write it there (0600) and nowhere else")
    add_where(parser, ADMIN_TOKEN_ENV)


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    _check(args)
    with connect(args, plane.environ, as_admin=True) as client:
        if args.action == "create":
            return _create(client, args)
        if args.action == "revoke":
            client.revoke_token(args.user, args.token_id)
            return {"user_id": args.user, "token_id": args.token_id}
        found = client.tokens(args.user)
        tokens = [{"token_id": one.token_id, "created_at": moment(one.created_at)} for one in found]
        return {"user_id": args.user, "tokens": tokens}


def show(data: dict[str, Any], out: Output) -> None:
    if "tokens" in data:
        rows = [[one["token_id"], one["created_at"]] for one in data["tokens"]]
        for line in table([["TOKEN_ID", "CREATED"], *rows]):
            out.line(line)
    elif "token" in data:
        out.line(data["token"])
        out.talk(f"token {data['token_id']} of {data['user_id']}: it is shown this once")
    elif "output_file" in data:
        out.line(f"token {data['token_id']} of {data['user_id']} is in {data['output_file']}")
    else:
        out.line(f"revoked {data['token_id']}")


def _check(args: argparse.Namespace) -> None:
    one_of("moor serve token", args.action, ACTIONS)
    if (args.action == "revoke") != (args.token_id is not None):
        message = (
            "revoke which one? give its TOKEN_ID" if args.action == "revoke" else f"{args.action} takes no TOKEN_ID"
        )
        raise UsageError(message, hint=f"moor serve token list {args.user}")
    if args.output is not None and args.action != "create":
        raise UsageError(f"--output is for create, not {args.action}")


def _create(client: ServingClient, args: argparse.Namespace) -> dict[str, Any]:
    if args.output is None:
        shown = client.create_token(args.user)
        return {**_told(shown), "token": shown.token}
    from moorage.traces.exporting.file import writing

    made: NewToken | None = None
    try:
        with writing(args.output, force=False) as file:
            made = client.create_token(args.user)
            file.write(made.token.encode() + b"\n")
    except BaseException:
        if made is not None:  # nobody has seen it, and nobody will
            client.revoke_token(args.user, made.token_id)
        raise
    return {**_told(made), "output_file": str(args.output.absolute())}


def _told(made: NewToken) -> dict[str, Any]:
    return {"user_id": made.user_id, "token_id": made.token_id, "created_at": moment(made.created_at)}
