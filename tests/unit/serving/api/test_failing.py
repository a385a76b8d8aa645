"""What is told when the store or the backend fails while it is asked, or when we do."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from moorage.errors import FailedError
from moorage.serving.api import changes
from moorage.serving.api.app import create_app
from moorage.serving.api.door import Door
from moorage.serving.api.parts import Parts
from moorage.serving.api.routes import models
from moorage.serving.api.server import make_parts
from moorage.serving.api.shared_backend import SharedBackend
from moorage.serving.backends.contract import BackendUnreachable, Seen, Wanted
from moorage.serving.log import Log
from moorage.serving.settings import Settings
from moorage.serving.spec.kwargs import load_kwargs
from moorage.serving.spec.rules import SpecRules
from moorage.serving.store.opening import open_store

ROOT = Path(__file__).resolve().parents[4]
ADMIN = {"Authorization": "Bearer admin-token-of-a-test"}
MODELS = "/api/v2/serve/models"


class Failing:
    """A store that works until `fault` is set."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.fault: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if not callable(real):
            return real

        def asked(*words: Any, **options: Any) -> Any:
            if self.fault is not None:
                raise self.fault
            return real(*words, **options)

        return asked


class Gone:
    """A backend that does not answer."""

    name = "gone"
    has_lora = False
    has_autoscaling = True

    def digest(self, wanted: Wanted) -> str:
        return wanted.app

    def observe(self) -> Mapping[str, Seen]:
        raise BackendUnreachable("nobody answers")

    def apply(self, wanted: Sequence[Wanted]) -> None:
        raise BackendUnreachable("nobody answers")

    def logs(self, app: str, lines: int) -> Iterator[str]:
        raise BackendUnreachable("nobody answers at 10.0.0.9", hint="look at 10.0.0.9", next=["ping 10.0.0.9"])

    def summary(self) -> dict[str, Any]:
        raise BackendUnreachable("nobody answers")

    def close(self) -> None:
        return


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[Failing]:
    store = open_store(f"sqlite:///{tmp_path / 's.db'}")
    yield Failing(store)
    store.close()


@pytest.fixture
def log() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def parts(failing: Failing, tmp_path: Path, log: io.StringIO) -> Parts:
    def clock() -> float:
        return 1_767_225_600.0

    backend = SharedBackend(Gone(), clock)
    return make_parts(
        Settings(backend="gone", db="", root=tmp_path),
        store=failing,  # type: ignore[arg-type]
        backend=backend,
        door=Door("admin-token-of-a-test", None, lambda secret: failing.whose(secret)),
        rules=SpecRules(root=tmp_path, engine_kwargs=load_kwargs(ROOT), has_lora=False),
        clock=clock,
        log=Log(log),
        woken=lambda: None,
    )


@pytest.fixture
def client(parts: Parts) -> TestClient:
    return TestClient(create_app(parts), raise_server_exceptions=False)


@pytest.fixture
def alice(client: TestClient) -> dict[str, str]:
    client.post("/api/v2/users", json={"user_id": "alice"}, headers=ADMIN)
    token = client.post("/api/v2/users/alice/tokens", headers=ADMIN).json()["token"]
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("fault", "code"),
    [(FailedError("the disk is full", code="store_failed"), "store_failed"), (RuntimeError("a secret"), "internal")],
)
@pytest.mark.parametrize(
    "ask",
    [
        lambda client, who: client.get(MODELS, headers=who),
        lambda client, who: client.post(MODELS, json={"model_id": "m", "model_source": "a/b"}, headers=who),
        lambda client, who: client.get("/api/v2/nothing", headers=who),
        lambda client, who: client.get("/api/v2/users", headers=ADMIN),
        lambda client, who: client.get("/api/v2/serve/endpoints", headers=ADMIN),
    ],
)
def test_a_store_that_fails_is_500(
    client: TestClient,
    failing: Failing,
    alice: dict[str, str],
    log: io.StringIO,
    ask: Callable[[TestClient, dict[str, str]], Any],
    fault: Exception,
    code: str,
) -> None:
    failing.fault = fault
    reply = ask(client, alice)
    assert (reply.status_code, reply.json()["code"]) == (500, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert "a secret" not in reply.text
    assert [json.loads(line)["level"] for line in log.getvalue().splitlines()] == ["error"]
    failing.fault = None
    assert client.get(MODELS, headers=alice).json()["items"] == []


def test_a_backend_that_is_gone_is_told(client: TestClient, alice: dict[str, str], log: io.StringIO) -> None:
    made = client.post(MODELS, json={"model_id": "m", "model_source": "a/b"}, headers=alice)
    assert made.status_code == 202
    path = f"{MODELS}/{made.json()['model_key']}"
    logs = client.get(f"{path}/logs", headers=alice)
    assert (logs.status_code, logs.json()["code"], logs.headers["retry-after"]) == (500, "backend_unreachable", "5")
    assert "10.0.0.9" not in logs.text and "10.0.0.9" in log.getvalue(), "where it is, is for operators"
    status = client.get("/api/v2/serve/status", headers=ADMIN).json()
    assert (status["backend"]["reachable"], status["backend"]["code"]) == (False, "backend_unreachable")
    assert client.get(path, headers=alice).json()["serve_status"]["app_status"] == "QUEUED"


def test_adapters_need_a_backend_that_loads_them(client: TestClient, alice: dict[str, str]) -> None:
    spec = {"model_id": "m", "model_source": "a/b", "lora": [{"name": "l", "source": "a/c"}]}
    reply = client.post(MODELS, json=spec, headers=alice)
    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (400, "backend_has_no_lora")


def test_health_tells_when_the_store_does_not_answer(client: TestClient, parts: Parts, failing: Failing) -> None:
    parts.changes.start()
    try:
        assert client.get("/health").status_code == 200
        failing.fault = FailedError("gone", code="store_failed")
        parts.changes.wake()
        while client.get("/health").status_code == 200:
            pass
        assert client.get("/health").json()["status"] == "store_failed"
        failing.fault = None
        parts.changes.wake()
        while client.get("/health").status_code == 503:
            pass
    finally:
        parts.changes.close()


def test_where_too_many_wait_already_the_next_is_told_so(
    client: TestClient, alice: dict[str, str], log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.post(MODELS, json={"model_id": "m", "model_source": "a/b"}, headers=alice).json()
    version = client.get("/api/v2/serve/endpoints", headers=ADMIN).json()["version"]
    monkeypatch.setattr(changes, "MOST_WAITING", 0)
    poll = f"/api/v2/serve/endpoints?version={version}&wait_s=1"
    for path, who in ((MODELS + "?watch=1", alice), (f"{MODELS}/{made['model_key']}?watch=1", alice), (poll, ADMIN)):
        reply = client.get(path, headers=who)
        assert (reply.status_code, reply.headers["content-type"]) == (503, "application/problem+json")
        assert (reply.json()["code"], reply.headers["retry-after"]) == ("too_many_waiting", "5")
    assert log.getvalue() == "", "nothing went wrong"


def test_of_many_events_the_first_and_the_newest_are_shown(
    client: TestClient, failing: Failing, alice: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = client.post(MODELS, json={"model_id": "m", "model_source": "a/b"}, headers=alice).json()
    path = f"{MODELS}/{made['model_key']}"
    for number in range(9):
        client.patch(path, json={"num_replicas": 2 + number}, headers=alice)
        client.post(f"{path}/rollback", json={"generation": 1}, headers=alice)
    every = client.get(f"{path}/events?limit=1000", headers=alice).json()["items"]
    assert len(every) == 19
    for shown in (2, 3, 5, 18, 19, 20):
        monkeypatch.setattr(models, "EVENTS_SHOWN", shown)
        told = client.get(path, headers=alice).json()["events"]
        assert told == (every if shown >= 19 else [every[0], *every[-(shown - 1) :]])
