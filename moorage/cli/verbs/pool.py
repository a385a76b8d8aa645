"""moor pool"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli.amounts import age_s, size_bytes
from moorage.cli.output import Output
from moorage.cli.parser import one_of
from moorage.errors import PreflightError, UsageError
from moorage.extras import package_missing
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    from moorage.pool.contract import Retention
    from moorage.pool.tools.source import Source

SUMMARY = "The pool of a gateway: counts, events as they come, steps as a file, marks, and letting old ones go."

DEFAULT_URL = "http://127.0.0.1:8100"
DEFAULT_KEY = "MOORAGE_KEY"
ACTIONS = ("stats", "tail", "export", "mark", "retain")
FLAGS = {
    "channel": ("stats", "tail", "export"),
    "n_rollouts": ("stats", "retain"),
    "after": ("tail",),
    "limit": ("tail",),
    "format": ("export",),
    "output": ("export",),
    "force": ("export",),
    "trajectory": ("export", "mark"),
    "prompt": ("export",),
    "policy_version": ("export",),
    "state": ("export",),
    "step": ("mark",),
    "set": ("mark",),
    "unset": ("mark",),
    "older_than": ("retain",),
    "max_bytes": ("retain",),
    "keep": ("retain",),
    "dry_run": ("retain",),
}
"""Which actions take which flags; --url, --db and --key-env are for all."""
SPELT = {"after": "--from"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    where = parser.add_argument_group("where: a gateway, or a store itself")
    where.add_argument("--url", help=f"the gateway's address ({DEFAULT_URL})")
    where.add_argument("--db", metavar="URL", help="the store, as sqlite:///FILE; only mark and retain write to it")
    where.add_argument("--key-env", metavar="VAR", help=f"the variable that holds a key ({DEFAULT_KEY})")
    which = parser.add_argument_group("which: of stats, tail and export")
    which.add_argument("--channel", metavar="C", help="this channel alone")
    which.add_argument("--n-rollouts", metavar="N", type=_positive, help="what ready means (the gateway's own, or 1)")
    follow = parser.add_argument_group("tail: events, until Ctrl-C")
    follow.add_argument("--from", dest="after", metavar="N", type=_whole, help="after that event; 0: all that are kept")
    follow.add_argument("--limit", metavar="N", type=_positive, help="end after so many")
    write = parser.add_argument_group("export: steps into a file")
    write.add_argument("--format", metavar="F", help="parquet or jsonl")
    write.add_argument("--output", metavar="FILE", type=Path, help="the file, which is there whole or not at all")
    write.add_argument("--force", action="store_true", default=None, help="write over a file that is there")
    write.add_argument("--trajectory", metavar="UID", help="of this trajectory alone (mark: of which)")
    write.add_argument("--prompt", metavar="UID", help="of this prompt alone")
    write.add_argument("--policy-version", metavar="V", type=int, help="of this weight version alone")
    write.add_argument("--state", metavar="S", help="of trajectories that are open, or complete")
    marks = parser.add_argument_group("mark: what is thought of a step")
    marks.add_argument("--step", metavar="N", type=_whole, help="its step_index")
    marks.add_argument("--set", metavar="NAME=JSON", action="append", help="trainable=false, note=text; repeatable")
    marks.add_argument("--unset", metavar="NAME", action="append", help="take a mark away; repeatable")
    gone = parser.add_argument_group("retain: let old trajectories go")
    gone.add_argument("--older-than", metavar="D", type=age_s, help="untouched for longer: 30d, 12h")
    gone.add_argument("--max-bytes", metavar="N", type=size_bytes, help="the oldest, until no more is kept: 50G")
    gone.add_argument("--keep", metavar="A,B", help="besides open, ready, leased: acked, dropped, deleted, …")
    gone.add_argument("--dry-run", action="store_true", default=None, help="say what would go")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    _check(args)
    try:
        source = _source(args, plane, out)
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "the pool needs the gateway's extra", "gateway") from fault
    actions: Mapping[str, Callable[[argparse.Namespace, Source, Output], dict[str, Any]]] = {
        "stats": _stats,
        "tail": _tail,
        "export": _export,
        "mark": _mark,
        "retain": _retain,
    }
    try:
        return actions[args.action](args, source, out)
    finally:
        source.close()


def show(data: dict[str, Any], out: Output) -> None:
    if "channels" in data:
        for line in _table(data["channels"]):
            out.line(line)
    elif "output" in data:
        out.line(f"{data['steps']} steps, {data['bytes']} bytes: {data['output']}")
    elif "marks" in data:
        out.line(json.dumps(data["marks"], ensure_ascii=False))
    elif "events" not in data:
        for line in _told(data):
            out.line(line)


def _stats(args: argparse.Namespace, source: Source, out: Output) -> dict[str, Any]:
    return {"channels": source.stats(args.channel, args.n_rollouts)}


def _tail(args: argparse.Namespace, source: Source, out: Output) -> dict[str, Any]:
    seen, last = 0, args.after
    for event in source.events(args.channel, args.after):
        shown: Any = event if out.as_json else _event_line(event)
        out.stream("event", shown)
        seen, last = seen + 1, event["id"]
        if seen == args.limit:
            break
    return {"events": seen, "cursor": last}


def _export(args: argparse.Namespace, source: Source, out: Output) -> dict[str, Any]:
    from moorage.pool.tools.export import export

    def tell(steps: int, size: int) -> None:
        out("export", f"{steps} steps, {size >> 20} MiB")

    steps, size = export(source, args.format, args.output, _filters(args), force=bool(args.force), tell=tell)
    return {"output": str(args.output.absolute()), "format": args.format, "steps": steps, "bytes": size}


def _mark(args: argparse.Namespace, source: Source, out: Output) -> dict[str, Any]:
    from moorage.pool.marks import check_marks

    changes: dict[str, Any] = dict(map(_named_value, args.set or ()))
    changes |= dict.fromkeys(args.unset or ())
    check_marks(changes)
    now = source.mark(args.trajectory, args.step, changes)
    return {"trajectory_uid": args.trajectory, "step_index": args.step, "marks": now}


def _retain(args: argparse.Namespace, source: Source, out: Output) -> dict[str, Any]:
    from moorage.pool.retention import PLANNED

    dry_run = bool(args.dry_run)
    told = source.retain(_retention(args), dry_run=dry_run)
    planned = {name: told[name] for name in PLANNED}
    if dry_run:
        return {"plan": planned, "content_bytes": told["content_bytes"]}
    return {"retained": planned, **{name: told[name] for name in ("blobs", "freed_bytes", "content_bytes")}}


def _retention(args: argparse.Namespace) -> Retention:
    from moorage.pool.contract import Retention
    from moorage.pool.retention import check_retention

    ask = Retention(
        older_than_s=args.older_than,
        max_bytes=args.max_bytes,
        n_rollouts=args.n_rollouts,
        keep=frozenset(word.strip() for word in (args.keep or "").split(",") if word.strip()),
    )
    check_retention(ask)
    return ask


def _check(args: argparse.Namespace) -> None:
    one_of("ACTION", args.action, ACTIONS)
    for name, actions in FLAGS.items():
        if getattr(args, name) is not None and args.action not in actions:
            flag = SPELT.get(name, f"--{name.replace('_', '-')}")
            raise UsageError(f"moor pool {args.action} takes no {flag}", hint=f"it belongs to {', '.join(actions)}")
    needs = {
        "export": ("format", "output"),
        "mark": ("trajectory", "step"),
    }.get(args.action, ())
    missing = [f"--{name}" for name in needs if getattr(args, name) is None]
    if args.action == "mark" and not (args.set or args.unset):
        missing.append("--set or --unset")
    if args.action == "retain" and args.older_than is None and args.max_bytes is None:
        missing.append("--older-than or --max-bytes")
    if missing:
        raise UsageError(f"moor pool {args.action} needs {', '.join(missing)}", hint="moor pool --help")
    if args.format is not None:
        one_of("--format", args.format, ("parquet", "jsonl"))
    if args.state is not None:
        one_of("--state", args.state, ("open", "complete"))
    if args.url and args.db:
        raise UsageError("--url and --db: give one of them")


def _source(args: argparse.Namespace, plane: Plane, out: Output) -> Source:
    if args.db:
        from moorage.pool.tools.over_store import OverStore

        return OverStore(args.db)
    from moorage.pool.tools.over_http import OverHttp

    key = plane.environ.get(args.key_env or DEFAULT_KEY)
    if args.key_env and not key:
        raise PreflightError(f"the variable {args.key_env} is not set", code="api_key_missing")
    trusted = plane.environ.get("REQUESTS_CA_BUNDLE") or plane.environ.get("SSL_CERT_FILE")
    return OverHttp(args.url or DEFAULT_URL, key or None, trusted=trusted, say=out.talk)


def _filters(args: argparse.Namespace) -> dict[str, Any]:
    named = {
        "channel": args.channel,
        "trajectory_uid": args.trajectory,
        "prompt_uid": args.prompt,
        "policy_version": args.policy_version,
        "state": args.state,
    }
    return {name: value for name, value in named.items() if value is not None}


def _named_value(text: str) -> tuple[str, Any]:
    """Of `NAME=JSON`; what is no JSON is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text!r}: write NAME=VALUE", code="bad_value")
    try:
        return name, json.loads(value, parse_constant=_no_constant)
    except ValueError:
        return name, value


def _no_constant(word: str) -> Any:
    raise ValueError(word)


def _event_line(event: Mapping[str, Any]) -> str:
    what = [str(event[name]) for name in ("prompt_uid", "trajectory_uid", "lease_id", "consumer") if name in event]
    if "step_index" in event:
        what.append(f"#{event['step_index']}")
    return f"{event['id']:>8}  {event['at']}  {event['type']:<8}  {event['channel']}  {' '.join(what)}"


def _table(channels: Mapping[str, Any]) -> list[str]:
    import io

    from rich.console import Console
    from rich.table import Table

    states = ("open", "ready", "leased", "acked", "dropped")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("channel", "steps", "late", "running", "complete", *states):
        table.add_column(name, justify="left" if name == "channel" else "right", no_wrap=True)
    for name, counts in sorted(channels.items()):
        runs, groups = counts["trajectories"], counts["groups"]
        row = (counts["steps"], counts["late_steps"], runs["open"], runs["complete"], *(groups[one] for one in states))
        table.add_row(name, *map(str, row))
    console = Console(file=io.StringIO(), width=200, color_system=None, markup=False)
    with console.capture() as captured:
        console.print(table)
    return [line.rstrip() for line in captured.get().splitlines()]


def _told(data: Mapping[str, Any]) -> list[str]:
    dry = "plan" in data
    what = data["plan"] if dry else data["retained"]
    first = f"{what['trajectories']} trajectories with {what['calls']} calls, {what['bytes']} bytes"
    lines = [f"would go: {first}" if dry else f"gone: {first}, {data['blobs']} contents that nothing names any more"]
    if what["trajectories"]:
        lines.append(f"last touched between {what['oldest_at']} and {what['newest_at']}")
        lines += [f"  {channel}: {count}" for channel, count in sorted(what["channels"].items())]
    lines.append(f"in the store: {data['content_bytes']} bytes")
    if not dry:
        lines.append(f"given back to the file system: {data['freed_bytes']} bytes")
    return lines


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number, 0 or more")
    return int(text)


def _positive(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1")
    return int(text)
