"""moor trace"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from moorage.cli.output import Output, table
from moorage.cli.parser import one_of
from moorage.errors import FailedError, UsageError
from moorage.extras import package_missing
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    from moorage.engines.rendering.tokenizer import Tokenizer
    from moorage.pool.archive import Archive
    from moorage.traces.replaying.recordings import Recordings

SUMMARY = "What a gateway recorded: list it, look at its tokens, verify it, replay it, export it."

FLAGS = {
    "list": {"kind", "channel", "state", "limit"},
    "show": {"call", "tokenizer_path", "width", "logprobs", "fold", "svg", "force"},
    "verify": {"all"},
    "replay": {"all", "host", "port"},
    "export": {"all", "format", "output", "force", "tokenizer_path"},
}
"""Which flags an action takes."""

TAKES_UID = {"show", "verify", "replay", "export"}
DEFAULT_PORT = 8200
LAST_PORT = 65535
SHOWN_FAULTS = 1000
FEW = 100
"""So many calls or trajectories are done before anybody could read of them."""

Result = TypeVar("Result")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", metavar="ACTION", help="list, show, verify, replay or export")
    parser.add_argument("uid", metavar="UID", nargs="?", help="a session or trajectory (not for list)")
    parser.add_argument(
        "--db", metavar="URL", help="sqlite:///FILE or postgresql://…, only read (where moor gateway writes)"
    )
    parser.add_argument("--all", action="store_true", default=None, help="verify, replay, export: the whole store")
    listing = parser.add_argument_group("list, newest first")
    listing.add_argument("--kind", help="session or trajectory")
    listing.add_argument("--channel", help="only of this channel")
    listing.add_argument("--state", help="open, complete or deleted")
    listing.add_argument("--limit", metavar="N", type=_positive, help="at most so many (50)")
    showing = parser.add_argument_group("show")
    showing.add_argument("--call", metavar="N", type=_whole, help="only this call, its prompt unfolded")
    showing.add_argument("--tokenizer-path", metavar="DIR", type=Path, help="text instead of ids (export: of nodes)")
    showing.add_argument("--logprobs", action="store_true", default=None, help="a line for every sampled token")
    showing.add_argument("--fold", metavar="N", type=_whole, help="tokens of a prompt that are not folded (96; 0: all)")
    showing.add_argument("--width", metavar="N", type=_positive, help="columns (the terminal's)")
    showing.add_argument("--svg", metavar="FILE", type=Path, help="as a picture")
    replaying = parser.add_argument_group("replay")
    replaying.add_argument("--host", help="a loopback address (127.0.0.1)")
    replaying.add_argument("--port", metavar="N", type=_whole, help=f"0: any free one ({DEFAULT_PORT})")
    exporting = parser.add_argument_group("export")
    exporting.add_argument("--format", help="jsonl (steps), nodes (JSON lines) or parquet (calls)")
    exporting.add_argument("--output", metavar="FILE", type=Path, help="written whole or not at all")
    exporting.add_argument("--force", action="store_true", default=None, help="in the place of a file (--svg too)")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    _check(args)
    try:
        from moorage.pool.opening import open_store
        from moorage.traces import listing  # noqa: F401 - what any of them needs
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "traces need the gateway's extra", "gateway") from fault
    archive = open_store(args.db or _default_db(plane.environ), read_only=True)
    return {"action": args.action, **_ACTIONS[args.action](args, archive, out)}


def show(data: dict[str, Any], out: Output) -> None:
    _SHOWN[data["action"]](data, out)


def _check(args: argparse.Namespace) -> None:
    one_of("ACTION", args.action, tuple(FLAGS))
    every = {name for names in FLAGS.values() for name in names}
    for name in sorted(every - FLAGS[args.action]):
        if getattr(args, name) is not None:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"moor trace {args.action} takes no {flag}", hint="moor trace --help")
    if args.action == "list" and args.uid is not None:
        raise UsageError(f"moor trace list takes no UID ({args.uid!r})", hint=f"moor trace show {args.uid}")
    if args.action in TAKES_UID and (args.uid is None) != bool(args.all):
        either = "a UID" if args.action == "show" else "either a UID or --all"
        raise UsageError(f"moor trace {args.action} needs {either}", next=["moor trace list"])
    if args.port is not None and args.port > LAST_PORT:
        raise UsageError(f"--port {args.port}: between 0 and {LAST_PORT}", code="bad_value")
    for flag, value, known in (
        ("--kind", args.kind, ("session", "trajectory")),
        ("--state", args.state, ("open", "complete", "deleted")),
        ("--format", args.format, ("jsonl", "nodes", "parquet")),
    ):
        if value is not None:
            one_of(flag, value, known)


def _list(args: argparse.Namespace, archive: Archive, out: Output) -> dict[str, Any]:
    del out
    from moorage.pool.archive import TraceAsk
    from moorage.traces.listing import trace_rows

    limit = args.limit or 50
    ask = TraceAsk(kind=args.kind, channel=args.channel, state=args.state, newest_first=True, limit=limit + 1)
    rows = _with(archive, lambda: trace_rows(archive, ask))
    return {"traces": rows[:limit], "more": len(rows) > limit}


def _show_list(data: dict[str, Any], out: Output) -> None:
    if not data["traces"]:
        out.line("nothing is recorded here, or nothing of what was asked for")
        return
    from moorage.traces.words import list_table

    for line in table(list_table(data["traces"])):
        out.line(line)
    if data["more"]:
        out.line("… there are more: --limit N")


def _show(args: argparse.Namespace, archive: Archive, out: Output) -> dict[str, Any]:
    from moorage.traces.showing.data import load, shown

    tokenizer = _tokenizer(args)
    trace = _with(archive, lambda: load(archive, args.uid, args.call))
    if args.svg is None and out.as_json:
        return shown(trace, tokenizer, args.call)
    from moorage.traces.showing.paper import as_svg, as_text
    from moorage.traces.showing.picture import HowShown, picture

    fold = 96 if args.fold is None else args.fold
    drawn = picture(trace, HowShown(tokenizer=tokenizer, call=args.call, logprobs=bool(args.logprobs), fold=fold))
    if args.svg is not None:
        from moorage.traces.exporting.file import write_whole

        title = f"moor trace show {args.uid}"
        write_whole(args.svg, [as_svg(drawn, width=args.width, title=title).encode()], force=bool(args.force))
        return {"uid": args.uid, "svg": str(args.svg.absolute())}
    colour = _in_colour()
    out.line(as_text(drawn, width=args.width or _columns(), colour=colour))
    return {}


def _show_show(data: dict[str, Any], out: Output) -> None:
    if "svg" in data:
        out.line(data["svg"])


def _export(args: argparse.Namespace, archive: Archive, out: Output) -> dict[str, Any]:
    from moorage.traces.exporting.export import export

    if args.output is None or args.format is None:
        raise UsageError("moor trace export needs --format and --output", hint="--format jsonl, nodes or parquet")
    tokenizer = _tokenizer(args)
    rows = _with(
        archive,
        lambda: export(
            archive,
            args.uid,
            kind=args.format,
            output=args.output,
            force=bool(args.force),
            tokenizer=tokenizer,
            progress=_progress("export", "trajectories", out),
        ),
    )
    return {"rows": rows, "format": args.format, "output": str(args.output.absolute())}


def _show_export(data: dict[str, Any], out: Output) -> None:
    out.line(f"{data['rows']} rows in {data['output']}")


def _tokenizer(args: argparse.Namespace) -> Tokenizer | None:
    if args.tokenizer_path is None:
        return None
    from moorage.engines.tokenizer_files import load_tokenizer

    return load_tokenizer(args.tokenizer_path)


def _in_colour() -> bool:
    """On a terminal, unless NO_COLOR is set to anything; rich knows terminals that have none."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _columns() -> int:
    return shutil.get_terminal_size((100, 24)).columns


def _verify(args: argparse.Namespace, archive: Archive, out: Output) -> dict[str, Any]:
    from moorage.traces.verifying.verify import verify

    progress = _progress("verify", "calls", out)
    found = _with(archive, lambda: verify(archive, args.uid, progress))
    data = {
        "trajectories": found.trajectories,
        "calls": found.calls,
        "tokens": found.tokens,
        "judged": found.judged,
        "not_judged": found.open,
        "head": found.head.hex() if found.head and args.uid else None,
        "faults": [fault.shown() for fault in found.faults[:SHOWN_FAULTS]],
    }
    if not found.faults:
        return data
    if not out.as_json:
        for fault in found.faults[:SHOWN_FAULTS]:
            out.line(fault.line())
    many = len(found.faults)
    raise FailedError(
        f"{many} fault{'' if many == 1 else 's'} in {found.calls} calls of {found.trajectories} trajectories",
        code="trace_faults",
        hint="what is named is not as it was committed; restore the store from a copy",
        data=data if out.as_json else None,
    )


def _show_verify(data: dict[str, Any], out: Output) -> None:
    calls, trajectories = data["calls"], data["trajectories"]
    out.line(f"no faults in {calls} calls ({data['tokens']} tokens) of {trajectories} trajectories")
    out.line(f"{data['judged']} boundaries judged again, to the same verdict and reason")
    for why, many in sorted(data["not_judged"].items()):
        out.line(f"{many} not judged again for certain: {why}")
    if data["head"]:
        out.line(f"head {data['head']}")


def _replay(args: argparse.Namespace, archive: Archive, out: Output) -> dict[str, Any]:
    from moorage.traces.replaying.serving import replay

    heard: list[str] = []

    def listening(url: str, recordings: Recordings) -> None:
        heard.append(url)
        many = f"{recordings.calls} recorded requests of {len(recordings.uids)} trajectories"
        out("listening", f"replay on {url}: {many}", port=int(url.rpartition(":")[2]), recordings=recordings.calls)

    host, port = args.host or "127.0.0.1", DEFAULT_PORT if args.port is None else args.port
    reading = _progress("reading", "calls", out)
    done = _with(
        archive, lambda: replay(archive, args.uid, host=host, port=port, listening=listening, progress=reading)
    )
    return {"url": heard[-1], "recordings": done.calls, "trajectories": len(done.uids)}


def _show_replay(data: dict[str, Any], out: Output) -> None:
    out.line(f"stopped {data['url']}")


def _progress(phase: str, what: str, out: Output) -> Callable[[int, int], None]:
    """Tells of each hundredth of a long work: a moving bar, or an event with `done` and `total`."""
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if done - told < max(total / 100, FEW):
            return
        told = done
        if out.as_json:
            out(phase, what, done=done, total=total)
        else:
            out(phase, what, done_bytes=done, total_bytes=total)

    return tell


def _with(archive: Archive, work: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `work` while the archive is open."""

    async def opened() -> Result:
        try:
            await archive.open()
            return await work()
        finally:
            await archive.close()

    return asyncio.run(opened())


def _default_db(environ: Mapping[str, str]) -> str:
    """Where `moor gateway` writes on its default port; no folder is made."""
    home = environ.get("XDG_DATA_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".local" / "share")
    return f"sqlite:///{Path(home) / 'moorage' / 'gateway-8100.db'}"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number of at least 1")
    return int(text)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number")
    return int(text)


_ACTIONS: Mapping[str, Callable[[argparse.Namespace, Archive, Output], dict[str, Any]]] = {
    "list": _list,
    "show": _show,
    "verify": _verify,
    "replay": _replay,
    "export": _export,
}
_SHOWN: Mapping[str, Callable[[dict[str, Any], Output], None]] = {
    "list": _show_list,
    "show": _show_show,
    "verify": _show_verify,
    "replay": _show_replay,
    "export": _show_export,
}
