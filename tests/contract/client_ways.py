"""The two ways to a recorded session: engines asked from this process, and through a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from moorage.client import APIServerConfig, ServerManager
from tests.contract.gateway_process import GatewayProcess, StubThread, running_gateway
from tests.stand_ins.engine_stub import Replier

__all__ = ["WAYS", "Way", "comparable", "ways_to"]

WAYS = ("in process", "gateway")


class Way:
    """`manager()` makes a new ServerManager that goes this way to the same engine."""

    def __init__(self, name: str, engine: str, gateway: GatewayProcess, tokenizer: Path) -> None:
        self.name, self.engine, self.gateway = name, engine, gateway
        self.tokenizer = str(tokenizer)

    @property
    def stub(self) -> StubThread:
        return self.gateway.stub

    def manager(self, **options: Any) -> ServerManager:
        if self.name == "gateway":
            return ServerManager([], proxy_url=self.gateway.url, environ={}, **options)
        config = APIServerConfig(base_url=self.engine, server_type="vllm", tokenizer_name=self.tokenizer)
        return ServerManager([config], environ={}, **options)


@contextmanager
def ways_to(
    folder: Path, tokenizer: Path, *, replies: Replier | None = None, engine: str | None = None
) -> Iterator[dict[str, Way]]:
    """Both, to the stub with these replies, or to a real engine."""
    whom = ("--upstream", engine) if engine else ()
    with running_gateway(folder, "--tokenizer-path", str(tokenizer), replies=replies, whom=whom) as gateway:
        yield {name: Way(name, engine or gateway.stub.url, gateway, tokenizer) for name in WAYS}


def comparable(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The nodes without the ids that every record has of its own; those of parents become places in the list."""
    nodes = [node.model_dump() for node in state["nodes"]]
    places = {node["metadata"]["call_id"]: place for place, node in enumerate(nodes)}
    for node in nodes:
        node["metadata"].pop("call_id")
        parent = node["metadata"].pop("parent_call_id")
        node["metadata"]["parent"] = None if parent is None else places.get(parent, "inner")
    return nodes
