"""Two gateways on two hosts over one PostgreSQL: sessions go on at either, also when the network fails between them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.campaigns.findings import Findings
from tests.campaigns.kills.numbered_engine import NumberedEngine, number_in
from tests.campaigns.ledger import read_ledgers
from tests.conftest import ROOT
from tests.contract.gateway_process import GatewayProcess, StubThread
from tests.real.parts.absence import PartMissing, require_real
from tests.real.parts.network import NetHost, net_host
from tests.real.parts.postgres import Postgres

pytestmark = [pytest.mark.postgres, pytest.mark.remote]
NANO = ROOT / "models" / "nano"
CUTS = int(os.environ.get("MOORAGE_NETWORK_CUTS", "4"))
CUT_S = (0.05, 0.8)
BETWEEN_S = (0.1, 0.6)


class Site:
    """Two hosts, each with a gateway; the engine and the database are on this machine."""

    def __init__(self, hosts: list[NetHost], gateways: list[GatewayProcess], engine: NumberedEngine, db: str) -> None:
        self.hosts, self.gateways, self.engine, self.db = hosts, gateways, engine, db


@pytest.fixture(scope="module")
def site(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder, schema, engine = tmp_path_factory.mktemp("hosts"), postgres.new_schema(), NumberedEngine(NANO)
    stub = StubThread(engine)
    before = os.environ.get("PGPASSWORD")
    os.environ["PGPASSWORD"] = postgres.password
    try:
        with contextlib.ExitStack() as stack:
            hosts = [stack.enter_context(_host()) for _ in range(2)]
            gateways = []
            for host in hosts:
                gateway = _gateway(host, stub, postgres, schema, folder)
                stack.callback(gateway.kill)
                gateways.append(gateway)
            yield Site(hosts, gateways, engine, postgres.url(schema))
    finally:
        stub.close()
        if before is None:
            del os.environ["PGPASSWORD"]
        else:
            os.environ["PGPASSWORD"] = before


@contextlib.contextmanager
def _host() -> Iterator[NetHost]:
    with contextlib.ExitStack() as stack:
        try:
            host = stack.enter_context(net_host())
        except PartMissing as missing:
            require_real(str(missing))
        yield host


def _gateway(host: NetHost, stub: StubThread, server: Postgres, schema: str, folder: Path) -> GatewayProcess:
    database, engine = _pass_on(stub, host, server.port), _pass_on(stub, host, stub.stub.port)
    url = server.url(schema, ports=[database]).replace(f":{server.password}@127.0.0.1", f"@{host.gateway}")
    return GatewayProcess(
        stub,
        folder / "unused",
        *("--db", url, "--host", "0.0.0.0", "--auth", "none", "--tokenizer-path", str(NANO)),
        whom=("--upstream", f"http://{host.gateway}:{engine}"),
        prefix=(*host.enter, "setpriv", "--pdeathsig", "KILL"),
        address=host.address,
    )


def _pass_on(stub: StubThread, host: NetHost, port: int) -> int:
    """A port on the host's way out that leads to one of this machine's loopback."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = stub.call(asyncio.start_server(passed, host.gateway, 0))
    return int(server.sockets[0].getsockname()[1])


def ask(gateway: GatewayProcess, path: str, messages: list[Any], attempt: int = 0) -> str | None:
    """What was said; None: no reply came, or one that says to try again."""
    body = {"messages": messages, "max_tokens": 48}
    try:
        reply = requests.post(
            f"{gateway.url}{path}/v1/chat/completions",
            json=body,
            timeout=30,
            headers={"x-stainless-retry-count": str(attempt)},
        )
    except requests.ConnectionError:
        return None
    if reply.status_code >= 500:
        return None
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def converse(site: Site, path: str, turns: int) -> list[tuple[int, str]]:
    """Each turn at the other host than the one before, asked again until it is answered: (number, tag) of each."""
    messages: list[Any] = []
    answered = []
    for turn, gateway in zip(range(turns), itertools.cycle(site.gateways)):
        tag = uuid.uuid4().hex
        messages.append({"role": "user", "content": f"what is 1+{turn}? [{tag}]"})
        for attempt in itertools.count():
            said = ask(gateway if attempt % 2 == 0 else random.choice(site.gateways), path, messages, attempt)
            if said is not None:
                break
            time.sleep(0.05)
        answered.append((number_in(said)[0], tag))
        messages.append({"role": "assistant", "content": said})
    return answered


@pytest.mark.parametrize("mode", ["exact", "passthrough"])
def test_one_conversation_that_alternates_between_hosts_is_one_node(site: Site, mode: str) -> None:
    made = requests.post(f"{site.gateways[0].url}/sessions/create", json={"mode": mode}, timeout=30).json()
    converse(site, f"/{made['uuid']}", 8)
    for gateway in site.gateways:
        [node] = requests.get(f"{gateway.url}/{made['uuid']}/nodes", timeout=30).json()["nodes"]
        assert [one["verdict"] for one in node["metadata"]["boundaries"]] == ["root", *["exact"] * 7]


def test_conversations_go_on_while_the_network_fails(site: Site) -> None:
    """Either host loses the engine, the database and its clients at once, for moments, at random."""
    seed = random.randrange(2**32)
    dice, findings, over = random.Random(seed), Findings("network cut", seed), threading.Event()
    talks: dict[str, list[tuple[int, str]]] = {}

    def talk(mode: str) -> None:
        while not over.is_set():
            made = requests.post(f"{site.gateways[0].url}/sessions/create", json={"mode": mode}, timeout=60).json()
            talks[made["uuid"]] = converse(site, f"/{made['uuid']}", 6)

    threads = [threading.Thread(target=talk, args=(mode,)) for mode in ("exact", "passthrough") * 2]
    for one in threads:
        one.start()
    for _ in range(CUTS):
        host = dice.choice(site.hosts)
        time.sleep(dice.uniform(*BETWEEN_S))
        host.cut()
        time.sleep(dice.uniform(*CUT_S))
        host.restore()
    over.set()
    for one in threads:
        one.join(120)
        assert not one.is_alive(), seed
    ledgers = read_ledgers(site.db, list(talks), findings)
    for uid, answered in talks.items():
        calls = [call for call in ledgers[uid].calls if call.record.delivered]
        numbers = [number_in(site.engine.text(call.completion))[0] for call in calls]
        assert numbers == [number for number, _ in answered], (seed, uid)
        assert [call.record.verdict for call in calls] == ["root", *["exact"] * (len(calls) - 1)], (seed, uid)
        assert all(site.engine.asked[number].prompt == call.prompt for number, call in zip(numbers, calls, strict=True))
    assert not findings.faults, findings.table()
    assert len(talks) >= len(threads)
