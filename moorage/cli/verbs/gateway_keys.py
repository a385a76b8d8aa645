"""moor gateway keys"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli.output import Output, table
from moorage.cli.parser import duration_s, one_of
from moorage.errors import UsageError
from moorage.extras import package_missing
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    from moorage.pool.contract import Key

SUMMARY = "The keys of a gateway: made, listed and revoked in its store, also while it runs."

ACTIONS = ("create", "list", "revoke")
LONGEST_NOTE = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="create|list|revoke", help="what to do")
    parser.add_argument("key_id", nargs="?", metavar="KEY_ID", help="revoke: which")
    parser.add_argument("--role", metavar="admin|trainer", help="create: what it may do (docs/security.md)")
    parser.add_argument("--note", metavar="TEXT", default="", help="create: whose it is, or what for")
    parser.add_argument("--expires", metavar="D", type=_lifetime_s, help="create: how long it is good, as 12h or 90d")
    parser.add_argument("--output", metavar="FILE", type=Path, help="create: write it there (0600) and nowhere else")
    parser.add_argument("--db", metavar="URL", help="the gateway's store (gateway-PORT.db in the user's data folder)")
    parser.add_argument("--port", type=int, default=8100, help="of the gateway, for its store's name (8100)")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    _check(args)
    try:
        from moorage.gateway.auth.keeping import KeyKeeper
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "the gateway needs its extra", "gateway") from fault
    from moorage.cli.verbs.gateway import store_url

    keeper = KeyKeeper(store_url(args.db, args.port, plane.environ))
    if args.action == "create":
        return _create(keeper, args, out)
    if args.action == "revoke":
        key, admins_left = keeper.revoke(_id_of(args.key_id))
        if not admins_left:
            out.talk("warning: no admin key is left: a gateway that asks for keys will not start")
        return _row(key, keeper.now())
    return {"keys": [_row(key, keeper.now()) for key in keeper.everything()]}


def show(data: dict[str, Any], out: Output) -> None:
    if "keys" in data:
        rows = [["KEY_ID", "ROLE", "STATE", "CREATED", "EXPIRES", "NOTE"]]
        rows += [
            [one["key_id"], one["role"], one["state"], one["created_at"], one["expires_at"] or "never", one["note"]]
            for one in data["keys"]
        ]
        for line in table(rows):
            out.line(line)
        return
    if data.get("key") is not None:
        out.line(data["key"])
        out.talk(f"{data['role']} key {data['key_id']}: it is shown this once")
        return
    if data.get("output_file") is not None:
        out.line(f"{data['role']} key {data['key_id']} is in {data['output_file']}")
        return
    out.line(f"revoked {data['key_id']}")


def _check(args: argparse.Namespace) -> None:
    one_of("moor gateway keys", args.action, ACTIONS)
    if (args.action == "revoke") != (args.key_id is not None):
        message = "revoke which one? give its KEY_ID" if args.action == "revoke" else f"{args.action} takes no KEY_ID"
        raise UsageError(message, hint="moor gateway keys list shows them")
    if args.action == "create":
        if args.role is None:
            raise UsageError("--role is missing: admin or trainer", hint="docs/security.md says what each may do")
        one_of("--role", args.role, ("admin", "trainer"))
        if len(args.note) > LONGEST_NOTE or not args.note.isprintable():
            raise UsageError(f"--note: one line of at most {LONGEST_NOTE} characters", code="bad_value")
        if "moor_" in args.note:
            raise UsageError("--note: that looks like a key, and notes are not secret", code="bad_value")
    elif args.role or args.note or args.expires is not None or args.output is not None:
        raise UsageError(f"--role, --note, --expires and --output are for create, not {args.action}")


def _id_of(text: str) -> str:
    """Of an id, or of a whole key that somebody found: that one is not repeated here. Raises UsageError."""
    name = text.split("_")[2] if text.startswith("moor_") and text.count("_") == 3 else text
    if re.fullmatch(r"[0-9a-f]{12}", name) is None:
        message = "that is no KEY_ID: it has 12 hexadecimal digits"
        raise UsageError(message, code="bad_value", hint="moor gateway keys list shows them")
    return name


def _create(keeper: Any, args: argparse.Namespace, out: Output) -> dict[str, Any]:
    text, key = keeper.create(args.role, note=args.note, lifetime_s=args.expires, output=args.output)
    where = {"key": text} if args.output is None else {"output_file": str(args.output.absolute())}
    del out
    return {**_row(key, keeper.now()), **where}


def _row(key: Key, now: float) -> dict[str, Any]:
    from moorage.gateway.auth.keeping import state_of, time_text

    return {
        "key_id": key.key_id,
        "role": key.role,
        "note": key.note,
        "state": state_of(key, now),
        "created_at": time_text(key.created_at),
        "expires_at": time_text(key.expires_at),
        "revoked_at": time_text(key.revoked_at),
    }


def _lifetime_s(text: str) -> float:
    """A duration above zero, also in days."""
    days = re.fullmatch(r"([0-9]+)d", text.strip())
    value = int(days[1]) * 86400.0 if days else duration_s(text)
    if not 0 < value <= 100 * 366 * 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: more than zero, and at most 100 years")
    return value
