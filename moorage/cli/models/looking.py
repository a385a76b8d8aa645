"""`moor models list|get|watch|logs`, and how a model is found by what people call it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from moorage.cli.models.showing import watched_line
from moorage.errors import NotFoundError

if TYPE_CHECKING:
    from moorage.cli.output import Output
    from moorage.client.serving.client import ServingClient
    from moorage.client.serving.values import Model

__all__ = ["every", "found", "get", "logs", "watch"]

LINES = 100
PAGE = 500


def found(name: str, client: ServingClient) -> Model:
    """The model of that key, dated name, alias or suffix. Raises NotFoundError, AmbiguousError."""
    from moorage.client.serving.finding import is_key, meant

    if is_key(name):
        try:
            return client.model(name).model
        except NotFoundError:
            pass  # a suffix may be written like a key
    return meant(name, client.models())


def every(args: argparse.Namespace, client: ServingClient, out: Output) -> dict[str, Any]:
    """`models`, oldest first, `more`: whether `--limit` left some out, and `openai_base_url`."""
    del out
    state = args.state.upper() if args.state else None
    models: list[dict[str, Any]] = []
    token: str | None = None
    while True:
        page = client.page(limit=min(PAGE, args.limit or PAGE), page_token=token, state=state)
        models += [model.raw for model in page.items]
        token = page.next_page_token
        if token is None or (args.limit is not None and len(models) >= args.limit):
            break
    kept = models[: args.limit]
    more = token is not None or len(models) > len(kept)
    return {"models": kept, "more": more, "openai_base_url": page.openai_base_url}


def get(args: argparse.Namespace, client: ServingClient, out: Output) -> dict[str, Any]:
    """The API's detail, with `etag`, and `revisions` when they are asked for."""
    del out
    key = found(args.model, client).model_key
    detail = client.model(key)
    data = {**detail.raw, "etag": detail.etag}
    if args.revisions:
        data["revisions"] = [revision.raw for revision in client.revisions(key)]
    return data


def watch(args: argparse.Namespace, client: ServingClient, out: Output) -> dict[str, Any]:
    """Models as they are, and every change, until Ctrl-C, `--limit`, or the one model is gone."""
    key = found(args.model, client).model_key if args.model else None
    seen, cursor = 0, args.after
    for event in client.watch(key, after=args.after):
        cursor = event.id or cursor
        if event.type == "BOOKMARK":
            continue
        shown: Any = event.data if out.as_json else watched_line(event)
        out.stream("event", shown)
        seen += 1
        if seen == args.limit:
            break
    return {"events": seen, "cursor": cursor}


def logs(args: argparse.Namespace, client: ServingClient, out: Output) -> dict[str, Any]:
    """`lines`; with `--follow` they come as a stream."""
    key = found(args.model, client).model_key
    tail = LINES if args.tail is None else args.tail
    if not args.follow:
        return {"model_key": key, "lines": client.logs(key, lines=tail, generation=args.generation)}
    many = 0
    for line in client.follow(key, lines=tail, generation=args.generation):
        out.stream("line", line)
        many += 1
    return {"model_key": key, "followed": many}
