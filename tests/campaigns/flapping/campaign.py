"""1,000 requests through a gateway with three upstreams, one of which flaps.

Laws: no request fails (two healthy upstreams could have served it), each answered call is stored once and nothing else
is, every counter of what is under way is 0 at the end.
"""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from tests.campaigns.findings import Findings
from tests.campaigns.flapping.upstream import Flapping
from tests.campaigns.ledger import read_ledgers
from tests.campaigns.telling import Watch, unwatched
from tests.contract.gateway_engines import Engine, engines_behind
from tests.contract.gateway_process import GatewayProcess, wait_until

__all__ = ["run_flapping"]

CLIENTS = 12
SESSIONS = 24
NEW = 0.1
"""The share of requests that make a session first: it may go where the flapping upstream has just come back."""
KINDS = ("sglang", "vllm", "vllm")
"""The first one flaps, which is asked first when all are idle: what moves from it goes to an engine of another kind."""


def run_flapping(folder: Path, *, number: int, seed: int, nano: Path, watch: Watch = unwatched) -> Findings:
    """`number` requests; what was found. The store stays in `folder`."""
    findings = watch(Findings(f"{number} requests, one of {len(KINDS)} upstreams flapping", seed))
    with engines_behind(folder, nano, *map(Engine, KINDS)) as (gateway, stubs):
        clients = _Clients(gateway, findings, seed)
        flapping = Flapping(stubs[0], seed)
        try:
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(clients.ask, range(number)))
        finally:
            flapping.stop()
        findings.count("times the upstream was out", flapping.times)
        _check_quiet(gateway, findings)
        findings.check(gateway.stop() == 0, "the gateway did not end as it should")
        _check_store(folder / "gateway.db", clients, findings)
    return findings


class _Clients:
    """Sessions, open requests and streams, from several threads."""

    def __init__(self, gateway: GatewayProcess, findings: Findings, seed: int) -> None:
        self._url, self._findings, self._seed = gateway.url, findings, seed
        self._lock = threading.Lock()
        self._local = threading.local()
        self.sessions = [gateway.post("/sessions/create", {}).json()["uuid"] for _ in range(SESSIONS)]
        self.answered: Counter[str] = Counter()
        """By session: choices that were answered whole."""
        self.cut: Counter[str] = Counter()
        """By session: streams that broke when they had begun; their upstream was gone for good."""

    def ask(self, number: int) -> None:
        """One request."""
        rng = random.Random(f"{self._seed} {number}")
        kind = rng.choices(("session", "stream", "several", "open", "logprobs"), (50, 15, 10, 22, 3))[0]
        uid = self._new_session() if rng.random() < NEW else rng.choice(self.sessions)
        body = {"messages": [{"role": "user", "content": f"What is {number} and one?"}], "max_tokens": 24}
        path = "/v1/chat/completions" if kind == "open" else f"/{uid}/v1/chat/completions"
        if kind == "logprobs":
            self._scored(number)
            return
        fields = {"several": {"n": 3}, "stream": {"stream": True}}.get(kind, {})
        reply = self._post(path, {**body, **fields}, number)
        if reply is None:
            return
        if kind == "stream":
            self._streamed(reply.text, uid, number)
        elif kind != "open":
            with self._lock:
                self.answered[uid] += len(reply.json()["choices"])

    def _new_session(self) -> str:
        made = self._http().post(f"{self._url}/sessions/create", json={}, timeout=60)
        with self._lock:
            self._findings.check(made.status_code == 200, f"no session: {made.text[:200]}")
            uid = str(made.json()["uuid"])
            self.sessions.append(uid)
        return uid

    def _scored(self, number: int) -> None:
        """Only the flapping upstream and the stubs' own 400 know of it: any answer will do."""
        reply = self._http().post(f"{self._url}/v1/logprobs", json={"input_ids": [5, 6, 7]}, timeout=60)
        with self._lock:
            self._findings.count(f"scores {reply.status_code}")
            self._findings.check(reply.status_code < 500 or reply.status_code in (501, 502), f"{number}: {reply.text}")

    def _streamed(self, text: str, uid: str, number: int) -> None:
        with self._lock:
            if "data: [DONE]" in text:
                self.answered[uid] += 1
            elif '"role"' in text:
                self.cut[uid] += 1
                self._findings.count("streams cut in their middle")
            else:
                self._findings.fault(f"{number}: a stream that never began: {text[:200]}")

    def _post(self, path: str, body: dict[str, Any], number: int) -> requests.Response | None:
        try:
            reply = self._http().post(f"{self._url}{path}", json=body, timeout=60)
        except requests.RequestException as error:
            with self._lock:
                self._findings.fault(f"{number}: {error}")
            return None
        with self._lock:
            self._findings.count(f"answered {reply.status_code}")
            self._findings.check(reply.status_code == 200, f"{number} {path}: {reply.status_code} {reply.text[:200]}")
        return reply if reply.status_code == 200 else None

    def _http(self) -> requests.Session:
        if not hasattr(self._local, "http"):
            self._local.http = requests.Session()
        http: requests.Session = self._local.http
        return http


def _check_quiet(gateway: GatewayProcess, findings: Findings) -> None:
    """Everything that counts what is under way."""

    def quiet() -> bool:
        rows = gateway.get("/servers").json()["servers"]
        return all(row["in_flight"] == 0 and not any(lane["busy"] for lane in row["slots"].values()) for row in rows)

    try:
        wait_until(quiet, within_s=20)
    except AssertionError:
        findings.fault(f"not quiet: {gateway.get('/servers').text}")
    wait_until(lambda: all(row["healthy"] for row in gateway.get("/servers").json()["servers"]), within_s=20)
    rows = gateway.get("/servers").json()["servers"]
    findings.count("retries", sum(row["retries"] for row in rows))
    for line in gateway.get("/metrics").text.splitlines():
        name, _, value = line.rpartition(" ")
        if not line.startswith("#") and "in_flight" in name and float(value) not in (0.0, 1.0):
            findings.fault(f"a counter is not back: {json.dumps(line)}")


def _check_store(db: Path, clients: _Clients, findings: Findings) -> None:
    """Answered calls are there once; others only of streams that broke."""
    ledgers = read_ledgers(db, clients.sessions, findings)
    for uid, ledger in ledgers.items():
        whole = [call for call in ledger.calls if call.record.delivered]
        answered = clients.answered[uid]
        findings.check(len(whole) == answered, f"{uid}: {answered} answered, {len(whole)} stored")
        partly = len(ledger.calls) - len(whole)
        findings.check(partly <= clients.cut[uid], f"{uid}: {partly} partly stored, {clients.cut[uid]} cut")
        names = [(call.record.request_id, call.record.choice) for call in ledger.calls]
        findings.check(len(set(names)) == len(names), f"{uid}: a choice is stored twice")
        findings.count("calls stored", len(whole))
