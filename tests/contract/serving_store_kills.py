"""A process that writes to the store until it is killed, and what must be there then."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

from moorage.serving.model import State
from moorage.serving.store.contract import Kept
from moorage.serving.store.opening import open_store
from tests.contract.serving_store_parts import LEASE, NOW, change, spec


def work(url: str, user: str) -> None:
    """Change after change, each said on a line of its own once it is acknowledged."""
    store = open_store(url, patience_s=60)
    now = datetime.now(UTC)
    n = 0
    while True:
        n += 1
        done = store.declare(user, spec(f"m{n}"), now, kept=Kept(key=f"{n}", body_sha256="b"))
        say("declared", n, done.model.model_key)
        store.amend(done.model.model_key, spec(f"m{n}", num_replicas=2), now, generation=1)
        say("amended", n, done.model.model_key)
        lease = store.take_lease(f"{LEASE}-{user}", user, now.timestamp(), 60)
        model = store.model(done.model.model_key)
        store.record([change(model, State.RUNNING, events=(("RUNNING", {}),))], now, lease, f"{LEASE}-{user}")
        say("recorded", n, model.model_key)
        if n % 3 == 0:
            store.delete(model.model_key, now)
            say("deleted", n, model.model_key)


def say(*what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def start(url: str, user: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.contract.serving_store_kills", url, user]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def kill_after(process: subprocess.Popen[str], lines: int) -> list[list[object]]:
    """What it said: so many lines, and those that were on the way."""
    said = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    said += process.stdout.readlines()
    process.wait(30)
    process.stdout.close()
    return read(said)


def read(lines: list[str]) -> list[list[object]]:
    """Less what was cut off."""
    return [json.loads(line) for line in lines if line.endswith("]\n")]


def check(url: str, user: str, said: list[list[object]]) -> None:
    """All that was acknowledged is there; of what was under way, all or nothing."""
    store = open_store(url)
    reached: dict[str, set[str]] = {}
    for what, _, model_key in said:
        reached.setdefault(model_key, set()).add(what)
    assert reached
    for model_key, steps in reached.items():
        model = store.model(model_key)
        generations = [one.generation for one in store.revisions(model_key)]
        events = [one.event_type for one in store.events(model_key, 100)]
        assert generations == list(range(1, model.generation + 1))
        assert model.generation >= (2 if "amended" in steps else 1)
        expected = ["DEPLOY_REQUESTED", "UPDATE_REQUESTED", "RUNNING", "DELETE_REQUESTED"]
        assert events == expected[: len(events)] and len(events) >= len(steps)
        states = [State.QUEUED, State.QUEUED, State.RUNNING, State.DELETING]
        assert model.state == states[len(events) - 1]
    # One more at most: what was kept and not said any more.
    mine = [one for one in store.changed_since(0, user)[1]]
    assert len(mine) - len(reached) in (0, 1)
    for n in range(1, len(reached) + 1):
        again = store.declare(user, spec(f"m{n}"), NOW, kept=Kept(key=f"{n}", body_sha256="b"))
        assert not again.changed and again.answer["state"] == "QUEUED"
    # And it goes on.
    assert store.declare(user, spec("after"), NOW).created
    store.close()


if __name__ == "__main__":
    work(*sys.argv[1:])
