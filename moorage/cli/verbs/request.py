"""moor request"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from moorage.cli.output import Output
from moorage.cli.parser import add_target, duration_s, positive_duration_s
from moorage.cli.sampling_prompt import ask_on_terminal
from moorage.launch.plane import Plane

SUMMARY = "Send a chat completion to the service that is meant."
FIELDS = ("max_tokens", "top_p", "temperature", "guidance", "num_steps", "seed", "negative_prompt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser, positional=False)
    add = parser.add_argument
    add("--prompt", metavar="TEXT", help="the user message")
    add("--system", metavar="TEXT", help="the system message")
    add("--image", action="append", default=[], metavar="F|URL", help="a picture, before the text")
    add("--video", action="append", default=[], metavar="F|URL", help="a video, before the text")
    for name in FIELDS:
        add(f"--{name.replace('_', '-')}", metavar="V", help="sampling: moor archs --json lists type, default, range")
    add("--accept-defaults", action="store_true", help="the arch's defaults for every field not given")
    add("--raw-body", metavar="FILE", help="send this file byte for byte")
    add("--stream", action="store_true", help="text as it comes")
    add("--wait", type=duration_s, default=0.0, metavar="S", help="how long to ask again while it loads (0)")
    add("--timeout", type=positive_duration_s, default=300.0, metavar="S", help="for the answer (300)")
    add("--output", metavar="FILE", help="where a video reply goes")
    add("--dry-run", action="store_true", help="show the body; send nothing")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    from moorage.launch.request import ChatRequest, prepare, send

    wanted = ChatRequest(
        job_id=args.job_id,
        network_arch=args.network_arch,
        platform=args.platform,
        prompt=args.prompt,
        system=args.system,
        images=tuple(args.image),
        videos=tuple(args.video),
        texts={name: getattr(args, name) for name in FIELDS if getattr(args, name) is not None},
        accept_defaults=args.accept_defaults,
        raw_body=Path(args.raw_body) if args.raw_body else None,
        stream=args.stream,
        wait_s=args.wait,
        timeout_s=args.timeout,
        output=Path(args.output) if args.output else None,
    )
    terminal = sys.stdin is not None and sys.stdin.isatty() and not out.as_json
    ask = ask_on_terminal(plane, out) if terminal else None
    prepared = prepare(plane, wanted, out, ask=ask, look=not args.dry_run)
    if args.dry_run:
        return {"plan": prepared.as_data()}
    entry = prepared.entry
    out.talk(f"Sending to job_id={entry['job_id']} arch={entry.get('network_arch')} url={prepared.url}")
    data = send(plane, wanted, prepared, out, on_delta=_on_delta(out) if args.stream else None)
    if args.stream and not out.as_json:
        out.line("")
        return data | {"streamed": True}
    return data


def show(data: dict[str, Any], out: Output) -> None:
    if "plan" in data:
        import json

        out.line(json.dumps(data["plan"], indent=2, ensure_ascii=False))
    elif data["output_file"]:
        out.line(f"saved to {data['output_file']}")
    elif not data.get("streamed"):
        out.line(data["content"] or json_text(data["response"]))


def json_text(response: dict[str, Any]) -> str:
    """A reply without text (tool calls): the message itself."""
    import json

    return json.dumps(response["choices"][0]["message"], ensure_ascii=False)


def _on_delta(out: Output) -> Any:
    return lambda text: out.stream("delta", text)
