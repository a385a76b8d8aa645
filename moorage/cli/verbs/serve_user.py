"""moor serve user"""

from __future__ import annotations

import argparse
from typing import Any

from moorage.cli.models.connection import ADMIN_TOKEN_ENV, add_where, connect
from moorage.cli.output import Output, table
from moorage.cli.parser import one_of
from moorage.errors import UsageError
from moorage.launch.plane import Plane

SUMMARY = "The users of a serving API, for its administrators."

ACTIONS = ("create", "list")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="create|list", help="what to do")
    parser.add_argument("user", nargs="?", metavar="USER", help="create: the id, as alice")
    add_where(parser, ADMIN_TOKEN_ENV)


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    one_of("moor serve user", args.action, ACTIONS)
    if (args.action == "create") != (args.user is not None):
        raise UsageError("create needs a USER, and list takes none", hint="moor serve user --help")
    with connect(args, plane.environ, as_admin=True) as client:
        if args.action == "create":
            user = client.create_user(args.user)
            return {"user_id": user.user_id, "created_at": moment(user.created_at)}
        return {"users": [{"user_id": one.user_id, "created_at": moment(one.created_at)} for one in client.users()]}


def show(data: dict[str, Any], out: Output) -> None:
    if "users" not in data:
        out.line(f"user {data['user_id']} is there; moor serve token create {data['user_id']} makes a token")
        return
    for line in table([["USER", "CREATED"], *([one["user_id"], one["created_at"]] for one in data["users"])]):
        out.line(line)


def moment(value: Any) -> str:
    """As the API writes it."""
    return str(value.strftime("%Y-%m-%dT%H:%M:%SZ"))
