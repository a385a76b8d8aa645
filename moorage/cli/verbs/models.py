"""moor models"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from moorage.cli.models.connection import PATIENCE_S, TOKEN_ENV, add_where, connect
from moorage.cli.output import Output
from moorage.cli.parser import duration_s, one_of
from moorage.errors import UsageError
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    from moorage.client.serving.client import ServingClient

    Action = Callable[[argparse.Namespace, ServingClient, Output], dict[str, Any]]

SUMMARY = "Models declared to a serving API: apply a spec, look, scale, roll back, delete, follow what happens."

ACTIONS = ("apply", "list", "get", "scale", "rollback", "delete", "watch", "logs")
FLAGS = {
    "file": ("apply",),
    "dry_run": ("apply", "scale", "rollback"),
    "create_only": ("apply",),
    "wait": ("apply", "scale", "rollback", "delete"),
    "if_match": ("scale", "rollback", "delete"),
    "state": ("list",),
    "limit": ("list", "watch"),
    "revisions": ("get",),
    "replicas": ("scale",),
    "min_replicas": ("scale",),
    "max_replicas": ("scale",),
    "no_autoscaling": ("scale",),
    "generation": ("rollback", "logs"),
    "after": ("watch",),
    "tail": ("logs",),
    "follow": ("logs",),
}
"""Which actions take which flags; --api and --token-env are for all."""
NEED_MODEL = ("get", "scale", "rollback", "delete", "logs")
STATES = ("queued", "deploying", "running", "failed", "deleting")
LONG_PATIENCE_S = 60.0
"""A watch, and logs that are followed, wait so long for a server that restarts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", help="a key, dated name, alias (user/suffix) or suffix; watch: optional"
    )
    add_where(parser, TOKEN_ENV)
    waiting = parser.add_argument_group("apply, scale, rollback, delete")
    waiting.add_argument("--wait", metavar="S", type=duration_s, help="until it serves (delete: is gone), so long")
    waiting.add_argument(
        "--dry-run", action="store_true", default=None, help="check it and tell what would change (not delete)"
    )
    waiting.add_argument("--if-match", metavar="ETAG", help="only when the spec is still that one (not apply)")
    spec = parser.add_argument_group("apply")
    spec.add_argument("-f", "--file", metavar="FILE", help="the spec, YAML or JSON, or several; - is stdin")
    spec.add_argument("--create-only", action="store_true", default=None, help="refuse when the model is there")
    scaling = parser.add_argument_group("scale")
    scaling.add_argument("--replicas", metavar="N", type=_whole, help="so many; with autoscaling: where it starts")
    scaling.add_argument("--min-replicas", metavar="N", type=_whole, help="autoscaling: at least")
    scaling.add_argument("--max-replicas", metavar="N", type=_whole, help="autoscaling: at most")
    scaling.add_argument("--no-autoscaling", action="store_true", default=None, help="--replicas alone counts again")
    back = parser.add_argument_group("rollback, logs")
    back.add_argument("--generation", metavar="N", type=_positive, help="of that revision (the last healthy; newest)")
    looking = parser.add_argument_group("list, get, watch, logs")
    looking.add_argument("--state", metavar="S", help=f"list: {', '.join(STATES)}")
    looking.add_argument("--limit", metavar="N", type=_positive, help="list: the oldest N; watch: end after N events")
    looking.add_argument("--revisions", action="store_true", default=None, help="get: the specs to go back to")
    looking.add_argument("--from", dest="after", metavar="ID", help="watch: after that cursor (first all there is)")
    looking.add_argument("--tail", metavar="N", type=_positive, help="logs: the last N lines of each replica (100)")
    looking.add_argument("--follow", action="store_true", default=None, help="logs: and what comes, until Ctrl-C")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    _check(args)
    action = _action(args.action)
    long = args.action == "watch" or args.follow or args.wait
    with connect(args, plane.environ, patience_s=LONG_PATIENCE_S if long else PATIENCE_S) as client:
        return {"action": args.action, **action(args, client, out)}


def show(data: dict[str, Any], out: Output) -> None:
    from moorage.cli.models import showing

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    if "plan" in data:
        lines = [line for plan in data["plan"] for line in showing.plan_lines(plan, colour=colour)]
    elif data["action"] == "list":
        lines = showing.list_lines(data["models"], colour=colour)
        lines += ["… there are more: --limit N"] if data["more"] else []
    elif data["action"] == "get":
        lines = showing.detail_lines(data, colour=colour)
    elif data["action"] in ("watch", "logs"):
        lines = list(data.get("lines", ()))
    else:
        lines = [showing.model_line(model) for model in data.get("models", [data])]
    for line in lines:
        out.line(line)


def _check(args: argparse.Namespace) -> None:
    one_of("ACTION", args.action, ACTIONS)
    for name, actions in FLAGS.items():
        if getattr(args, name) is not None and args.action not in actions:
            flag = {"after": "--from"}.get(name, f"--{name.replace('_', '-')}")
            raise UsageError(f"moor models {args.action} takes no {flag}", hint=f"it belongs to {', '.join(actions)}")
    if args.action in NEED_MODEL and not args.model:
        raise UsageError(f"moor models {args.action} needs a MODEL", next=["moor models list"])
    if args.model and args.action in ("apply", "list"):
        raise UsageError(f"moor models {args.action} takes no MODEL ({args.model!r})", hint="moor models --help")
    if args.action == "apply" and not args.file:
        raise UsageError("moor models apply needs -f FILE", hint="-f - reads the spec from stdin")
    if args.dry_run and args.wait is not None:
        raise UsageError("--dry-run and --wait: give one of them")
    if args.state is not None:
        one_of("--state", args.state.lower(), STATES)
    if args.action == "scale":
        _check_scale(args)


def _check_scale(args: argparse.Namespace) -> None:
    bounds = args.min_replicas is not None or args.max_replicas is not None
    if bounds and args.no_autoscaling:
        raise UsageError("--no-autoscaling with --min-replicas or --max-replicas: give one of them")
    if args.replicas is None and not bounds and not args.no_autoscaling:
        raise UsageError(
            "moor models scale needs --replicas N", hint="or --min-replicas and --max-replicas, or --no-autoscaling"
        )


def _action(name: str) -> Action:
    from moorage.cli.models import applying, changing, looking

    actions: Mapping[str, Action] = {
        "apply": applying.apply,
        "list": looking.every,
        "get": looking.get,
        "scale": changing.scale,
        "rollback": changing.rollback,
        "delete": changing.delete,
        "watch": looking.watch,
        "logs": looking.logs,
    }
    return actions[name]


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number")
    return int(text)


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1")
    return int(text)
