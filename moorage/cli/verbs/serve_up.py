"""moor serve up"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorage.cli.output import Output
from moorage.cli.parser import one_of, positive_duration_s
from moorage.extras import package_missing
from moorage.launch.plane import Plane

if TYPE_CHECKING:
    from moorage.serving.up.bring_up import Up
    from moorage.serving.up.place import Place

SUMMARY = "Start the serving API, the gateway and what they need on this machine, with a tiny model that answers."

BACKENDS = ("ray_serve", "launch", "memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--backend", metavar="B", default="ray_serve", help=f"{', '.join(BACKENDS)} (ray_serve)")
    add("--host", metavar="H", default="127.0.0.1", help="the address that both listen on (127.0.0.1)")
    add("--port", metavar="P", type=int, default=8080, help="of the API (8080)")
    add("--inference-port", metavar="P", type=int, default=8000, help="of the gateway, where models answer (8000)")
    add("--root", metavar="DIR", type=Path, help="of models (a folder of this command's own)")
    add(
        "--config", metavar="FILE", type=Path, help="of the API; docs/serving.md (one that says whether there are GPUs)"
    )
    add("--wait", metavar="S", type=positive_duration_s, default=900.0, help="for the model to answer (900)")


def run(args: argparse.Namespace, plane: Plane, out: Output) -> dict[str, Any]:
    one_of("--backend", args.backend, BACKENDS)
    try:
        from moorage.catalog.bundle import bundle_root
        from moorage.serving.up.bring_up import bring_up
        from moorage.serving.up.place import Place
        from moorage.serving.up.record import Choices
    except ModuleNotFoundError as fault:
        raise package_missing(fault.name, "serving needs its extra", "serve") from fault
    place = Place(plane.environ)
    choices = Choices(
        backend=args.backend,
        host=args.host,
        port=args.port,
        inference_port=args.inference_port,
        root=str((args.root or place.root).absolute()),
        config=str(args.config.absolute()) if args.config is not None else None,
    )
    up = bring_up(place, choices, plane.environ, bundle_root(plane.environ), out, wait_s=args.wait)
    return _data(up, place)


def show(data: dict[str, Any], out: Output) -> None:
    out.line("It is up already." if data["already"] else "It is up.")
    out.line(f"API    : {data['api_url']}  (docs: {data['api_url']}/docs)")
    out.line(f"Models : {data['openai_base_url']}")
    if data["model_id"] is not None:
        out.line(f"Model  : {data['model_id']}, also called {data['model_alias']}")
    if data["answer"] is not None:
        out.line(f"Asked  : {data['question']}")
        out.line(f"Answer : {data['answer']}")
    out.line(f"Tokens : {data['user_token_file']} (user {data['user_id']}), {data['admin_token_file']} (administrator)")
    out.line("Next:")
    for command in data["next"]:
        out.line(f"  {command}")


def _data(up: Up, place: Place) -> dict[str, Any]:
    from moorage.serving.up.asking import QUESTION
    from moorage.serving.up.model import USER

    choices, model = up.choices, up.model or {}
    user_token = str(place.token_file("user"))
    return {
        "already": up.already,
        "backend": choices.backend,
        "api_url": choices.api_url,
        "openai_base_url": f"{choices.inference_url}/v1",
        "user_id": USER,
        "model_key": model.get("model_key"),
        "model_id": model.get("model_id"),
        "model_alias": model.get("model_alias"),
        "question": QUESTION if up.answer is not None else None,
        "answer": up.answer,
        "user_token_file": user_token,
        "admin_token_file": str(place.token_file("admin")),
        "folder": str(place.folder),
        "root": choices.root,
        "next": _next(up, user_token),
    }


def _next(up: Up, user_token: str) -> list[str]:
    choices, alias = up.choices, (up.model or {}).get("model_alias") or "MODEL"
    body = f'{{"model": "{alias}", "messages": [{{"role": "user", "content": "Hello"}}]}}'
    chat = (
        f"curl {choices.inference_url}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(body)}"
    )
    api = f"MOORAGE_SERVING_URL={choices.api_url} " if choices.api_url != "http://127.0.0.1:8080" else ""
    token = f'MOORAGE_SERVING_TOKEN="$(cat {shlex.quote(user_token)})"'
    return [chat, f"{api}{token} moor models list", "moor serve status", "moor serve down"]
