"""A gateway in front of several engines, each of its own kind."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.contract.gateway_process import GatewayProcess, StubThread
from tests.stand_ins.engine_stub import Replier
from tests.stand_ins.hosted_server import HostedServer
from tests.stand_ins.sglang_server import SglangServer
from tests.stand_ins.small_engine import SmallEngine
from tests.stand_ins.trl_server import TrlServer

__all__ = ["MAKERS", "Engine", "engines_behind", "ids_of", "talk"]

MAKERS: dict[str, Callable[[Path], Replier]] = {
    "vllm": SmallEngine,
    "sglang": SglangServer,
    "trl": TrlServer,
    "openai": lambda _: HostedServer(),
}
SAMPLING = {"temperature": 0.5, "seed": 7}


class Engine(NamedTuple):
    """One server and what its entry in the servers file says beside its URL."""

    kind: str
    replies: Replier | None = None
    fields: dict[str, Any] = {}  # noqa: RUF012 - never written to


@contextlib.contextmanager
def engines_behind(
    folder: Path, nano: Path, *engines: Engine, flags: tuple[str, ...] = (), tokenizer: bool = True
) -> Iterator[tuple[GatewayProcess, list[StubThread]]]:
    """The gateway and its engines, all gone at the end."""
    with contextlib.ExitStack() as stack:
        stubs = []
        for engine in engines:
            stub = StubThread(engine.replies or MAKERS[engine.kind](nano))
            stack.callback(stub.close)
            stubs.append(stub)
        file = folder / "servers.json"
        file.write_text(json.dumps({"servers": entries(engines, stubs)}))
        more = ("--tokenizer-path", str(nano)) if tokenizer else ("--mode", "passthrough")
        whom = ("--servers", str(file))
        gateway = GatewayProcess(stubs[0], folder / "gateway.db", "--upstream-timeout", "20", *more, *flags, whom=whom)
        stack.callback(gateway.kill)
        yield gateway, stubs


def entries(engines: tuple[Engine, ...], stubs: list[StubThread]) -> list[dict[str, Any]]:
    """The servers file's list."""
    return [
        {"base_url": stub.url, "server_type": engine.kind, "model_name": "stub", **engine.fields}
        for engine, stub in zip(engines, stubs, strict=True)
    ]


def talk(gateway: GatewayProcess, uid: str, *turns: str, **fields: Any) -> list[dict[str, Any]]:
    """A conversation in a session; the replies."""
    messages: list[dict[str, Any]] = []
    replies = []
    for turn in turns:
        messages.append({"role": "user", "content": turn})
        reply = gateway.post(f"/{uid}/v1/chat/completions", {"messages": messages, **SAMPLING, **fields})
        assert reply.status_code == 200, reply.text
        replies.append(reply.json())
        messages.append(replies[-1]["choices"][0]["message"])
    return replies


def ids_of(gateway: GatewayProcess, uid: str) -> list[dict[str, Any]]:
    """Each node's lists, and how it came to be."""
    nodes = gateway.get(f"/{uid}/nodes").json()["nodes"]
    named = ("tokens", "masked_tokens", "logprobs", "full_text")
    return [{**{name: node[name] for name in named}, "finish": node["metadata"]["finish_reason"]} for node in nodes]
