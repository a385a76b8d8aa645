"""The control plane's store in PostgreSQL: opened and migrated, or refused; away, back, killed, locked."""

from __future__ import annotations

import signal
from contextlib import closing

import pytest

pytest.importorskip("sqlalchemy")
pytest.importorskip("psycopg")

from sqlalchemy import text

from moorage.errors import FailedError, PreflightError
from moorage.serving.store.opening import open_store
from tests.contract import serving_store_kills as kills
from tests.contract.serving_store_opening import OpeningContract, engine_of
from tests.contract.serving_store_parts import NOW, refused, spec
from tests.real.parts.postgres import postgres_server

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(postgres):
    return postgres.url(postgres.new_schema())


@pytest.fixture
def store(url):
    store = open_store(url, patience_s=0.5)
    store.declare("alice", spec("first"), NOW)
    yield store
    store.close()


class TestOpening(OpeningContract):
    @pytest.fixture
    def bare(self, url):
        return url

    @pytest.fixture
    def another(self, postgres):
        return postgres.url(postgres.new_schema())


def failed(work) -> None:
    with pytest.raises(FailedError) as caught:
        work()
    assert (caught.value.code, bool(caught.value.hint)) == ("store_failed", True)


def names(store) -> list[str]:
    return [one.suffix for one in store.live()]


def test_without_a_search_path_it_is_a_schema_of_our_own(postgres):
    url = postgres.url("x").partition("?")[0]
    postgres.sql("CREATE TABLE IF NOT EXISTS public.theirs_too (n INTEGER)")
    try:
        with closing(open_store(url)) as store:
            store.declare("alice", spec(), NOW)
            assert postgres.sql("SELECT suffix FROM moorage_serving.models") == "m"
    finally:
        postgres.sql("DROP TABLE public.theirs_too; DROP SCHEMA IF EXISTS moorage_serving CASCADE")


def test_of_a_search_path_the_first_is_meant(postgres):
    schema = postgres.new_schema()
    with closing(open_store(postgres.url(schema + ",public"))) as store:
        store.declare("alice", spec(), NOW)
        assert postgres.sql(f"SELECT count(*) FROM {schema}.models") == "1"


def test_who_owns_the_schema_needs_no_other_right(postgres):
    schema = postgres.new_schema()
    role = f"r_{schema}"
    postgres.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'pw'; CREATE SCHEMA {schema} AUTHORIZATION {role}")
    url = postgres.url(schema, password="pw").replace(f"//{postgres.user}:", f"//{role}:")
    open_store(url).close()
    other = postgres.new_schema()
    assert refused(lambda: open_store(url.replace(schema, other).replace(f"r_{other}", role))) == "store_read_only"


def test_a_wrong_password_is_not_shown(postgres):
    with pytest.raises(PreflightError) as caught:
        open_store(postgres.url("x", password="not-the-one"))
    assert caught.value.code == "store_unusable"
    assert "not-the-one" not in caught.value.message + caught.value.hint + repr(caught.value.__cause__)


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(PreflightError, match=r"u@127\.0\.0\.1:1/d") as caught:
        open_store("postgresql://u:secret@127.0.0.1:1/d")
    assert "secret" not in caught.value.message


def test_connections_that_were_cut_off_are_not_noticed(postgres, store):
    store.live()
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'moorage'")
    assert names(store) == ["first"]
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'moorage'")
    assert store.declare("alice", spec(), NOW).created


def test_what_others_hold_is_waited_for_and_then_not(store, url):
    with engine_of(url) as other:
        other.execute(text("SELECT version FROM store FOR UPDATE"))
        failed(lambda: store.declare("alice", spec(), NOW))
        assert names(store) == ["first"]
    assert store.declare("alice", spec(), NOW).created


def test_numbers_become_visible_in_their_order(store, url):
    """Who began earlier and commits later does not slip in below what a watcher has seen already."""
    with engine_of(url) as slow:
        version = slow.execute(text("SELECT version FROM store FOR UPDATE")).scalar_one()
        failed(lambda: store.declare("alice", spec("quick"), NOW))
        assert store.changed_since(version, None) == (version, ())
        slow.execute(text("UPDATE store SET version = version + 1"))
        slow.execute(text("UPDATE models SET version = (SELECT version FROM store)"))
        assert store.changed_since(version, None) == (version, ())
    assert [one.suffix for one in store.changed_since(version, None)[1]] == ["first"]


def test_a_server_that_is_away_is_a_fault_until_it_is_back():
    with postgres_server() as server, closing(open_store(server.url("s"), patience_s=5)) as store:
        secret = store.create_user("alice", NOW) or store.create_token("alice", NOW)[1]
        store.declare("alice", spec("first"), NOW)
        process = kills.start(server.url("s"), "bob")
        said = [process.stdout.readline() for _ in range(10)]
        server.kill()
        said += process.stdout.readlines()
        process.wait(60)
        for work in (
            lambda: store.declare("alice", spec(), NOW),
            lambda: store.whose(secret),
            lambda: store.take_lease("l", "me", 0, 1),
            store.live,
            store.version,
        ):
            failed(work)
        server.start()
        assert store.whose(secret) == "alice"
        assert store.declare("alice", spec(), NOW).created
        kills.check(server.url("s"), "bob", kills.read(said))
        server.stop(signal.SIGINT)
        failed(store.live)
        server.start()
        assert set(names(store)) >= {"first", "m"}


def test_what_was_acknowledged_is_there_after_a_kill(url):
    open_store(url).close()
    kills.check(url, "alice", kills.kill_after(kills.start(url, "alice"), 13))
