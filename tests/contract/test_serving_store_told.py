"""What clients are told when the store fails: that it did, and nothing of where it is. The log has the rest."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from moorage.serving.api.app import create_app
from moorage.serving.api.door import Door
from moorage.serving.api.server import make_parts
from moorage.serving.api.shared_backend import SharedBackend
from moorage.serving.backends.memory import MemoryBackend
from moorage.serving.log import Log
from moorage.serving.settings import Settings
from moorage.serving.spec.kwargs import load_kwargs
from moorage.serving.spec.rules import SpecRules
from moorage.serving.store.opening import open_store
from moorage.serving.store.passing import may_pass
from tests.contract.serving_store_opening import engine_of
from tests.real.parts.postgres import Postgres, postgres_server

ROOT = Path(__file__).resolve().parents[2]
MODELS = "/api/v2/serve/models"
SPEC = {"model_id": "m", "model_source": "a/b"}
ADMIN = {"Authorization": "Bearer admin-token-of-a-test"}
START = 1_767_225_600.0


class ToldContract:
    """Has `url`, `secrets` (what no client may read), and `busy`, which holds the database so that nobody can write."""

    @pytest.fixture
    def log(self) -> io.StringIO:
        return io.StringIO()

    @pytest.fixture
    def client(self, url: str, tmp_path: Path, log: io.StringIO) -> Iterator[TestClient]:
        store = open_store(url, patience_s=0.3)
        parts = make_parts(
            Settings(backend="memory", db=url, root=tmp_path),
            store=store,
            backend=SharedBackend(MemoryBackend(clock=lambda: START), lambda: START),
            door=Door("admin-token-of-a-test", None, store.whose),
            rules=SpecRules(root=tmp_path, engine_kwargs=load_kwargs(ROOT), has_lora=True),
            clock=lambda: START,
            log=Log(log),
            woken=lambda: None,
        )
        yield TestClient(create_app(parts), raise_server_exceptions=False)
        parts.watch_readers.close()
        parts.feed_readers.close()
        store.close()

    @pytest.fixture
    def alice(self, client: TestClient) -> dict[str, str]:
        client.post("/api/v2/users", json={"user_id": "alice"}, headers=ADMIN)
        token = client.post("/api/v2/users/alice/tokens", headers=ADMIN).json()["token"]
        return {"Authorization": f"Bearer {token}"}

    @pytest.fixture
    def secrets(self, url: str) -> list[str]:
        raise NotImplementedError

    def busy(self, url: str) -> AbstractContextManager[Any]:
        raise NotImplementedError

    def test_one_that_is_busy_is_worth_another_try(
        self, client: TestClient, alice: dict[str, str], url: str, secrets: list[str], log: io.StringIO
    ) -> None:
        with self.busy(url):
            reply = client.post(MODELS, json=SPEC, headers=alice)
            told(reply, secrets)
            assert 0 < int(reply.headers["retry-after"]) <= 60
            assert "Retry-After" in reply.json()["hint"]
            assert client.get(MODELS, headers=alice).status_code == 200
        assert any(one in log.getvalue() for one in secrets), "an operator has to know which"
        assert client.post(MODELS, json=SPEC, headers=alice).status_code == 202


def told(reply: Any, secrets: list[str]) -> None:
    assert (reply.status_code, reply.json()["code"]) == (500, "store_failed")
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["hint"] and reply.json()["detail"]
    whole = reply.text + repr(reply.headers)
    assert [one for one in secrets if one in whole] == []


class TestSqlite(ToldContract):
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "hidden-folder" / "hidden-file.db"

    @pytest.fixture
    def url(self, path: Path) -> str:
        return f"sqlite:///{path}"

    @pytest.fixture
    def secrets(self, path: Path) -> list[str]:
        return ["hidden-folder", "hidden-file", str(path), "sqlite", "SQL", "locked"]

    @contextmanager
    def busy(self, url: str) -> Iterator[None]:
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")
        other.close()

    def test_one_that_is_gone_is_for_somebody_to_see_to(
        self, client: TestClient, alice: dict[str, str], path: Path, secrets: list[str], log: io.StringIO
    ) -> None:
        away = path.rename(path.with_name("away.db"))
        for reply in (
            client.post(MODELS, json=SPEC, headers=alice),
            client.get(MODELS, headers=alice),
            client.get(f"{MODELS}?watch=1", headers=alice),
            client.get("/api/v2/serve/status", headers=ADMIN),
            client.get("/api/v2/serve/endpoints?version=1&wait_s=1", headers=ADMIN),
            client.get("/api/v2/nothing", headers=alice),
        ):
            told(reply, secrets)
            assert "retry-after" not in reply.headers
            assert "log" in reply.json()["hint"]
        assert log.getvalue().count(str(path)) >= 6
        away.rename(path)
        assert client.get(MODELS, headers=alice).json()["items"] == []


@pytest.mark.postgres
class TestPostgres(ToldContract):
    @pytest.fixture
    def schema(self, postgres: Postgres) -> str:
        return postgres.new_schema()

    @pytest.fixture
    def url(self, postgres: Postgres, schema: str) -> str:
        return postgres.url(schema)

    @pytest.fixture
    def secrets(self, postgres: Postgres, schema: str) -> list[str]:
        return of_server(postgres, schema)

    @contextmanager
    def busy(self, url: str) -> Iterator[None]:
        with engine_of(url) as other:
            other.execute(text("SELECT version FROM store FOR UPDATE"))
            yield


@pytest.mark.postgres
class TestAway(ToldContract):
    """A server that is not there, while it is not there."""

    @pytest.fixture
    def server(self) -> Iterator[Postgres]:
        with postgres_server() as server:
            yield server

    @pytest.fixture
    def url(self, server: Postgres) -> str:
        return server.url("s")

    @pytest.fixture
    def secrets(self, server: Postgres) -> list[str]:
        self.server_of_busy = server
        return of_server(server, "search_path")

    @contextmanager
    def busy(self, url: str) -> Iterator[None]:
        self.server_of_busy.kill()
        yield
        self.server_of_busy.start()

    def test_one_that_is_busy_is_worth_another_try(  # it cannot even be read
        self, client: TestClient, alice: dict[str, str], url: str, secrets: list[str], log: io.StringIO
    ) -> None:
        with self.busy(url):
            for reply in (client.post(MODELS, json=SPEC, headers=alice), client.get(MODELS, headers=alice)):
                told(reply, secrets)
                assert 0 < int(reply.headers["retry-after"]) <= 60
        assert str(secrets[0]) in log.getvalue()
        assert client.post(MODELS, json=SPEC, headers=alice).status_code == 202


def of_server(server: Postgres, schema: str) -> list[str]:
    return [
        str(server.port),
        "127.0.0.1",
        "localhost",
        server.user,
        server.password,
        schema,
        str(server.folder),
        "SELECT",
    ]


class Origin(Exception):
    """A driver's own."""


@pytest.mark.parametrize(
    ("name", "value", "passes"),
    [
        ("sqlite_errorcode", 5, True),
        ("sqlite_errorcode", 261, True),  # SQLITE_BUSY_RECOVERY
        ("sqlite_errorcode", 6, True),
        ("sqlite_errorcode", 13, False),  # full
        ("sqlite_errorcode", 10, False),  # input or output
        ("sqlite_errorcode", 11, False),  # damaged
        ("sqlstate", "55P03", True),
        ("sqlstate", "57014", True),
        ("sqlstate", "57P03", True),
        ("sqlstate", "08006", True),
        ("sqlstate", "53300", True),
        ("sqlstate", "53100", False),  # disk full
        ("sqlstate", "42P01", False),  # no such table
        ("sqlstate", "28P01", False),  # password
    ],
)
def test_what_may_pass_by_itself(name: str, value: int | str, passes: bool) -> None:
    origin = Origin("it")
    setattr(origin, name, value)
    assert may_pass(OperationalError("SELECT", None, origin)) is passes
