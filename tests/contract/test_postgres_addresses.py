"""What a database's URL may say, and what is shown of it."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg")

from moorage.errors import PreflightError, UsageError
from moorage.pool.opening import open_store
from moorage.pool.postgres.place import Place
from tests.contract.store_opening import opening

pytestmark = pytest.mark.postgres


@pytest.fixture
def schema(postgres):
    return postgres.new_schema()


def test_tls_is_as_the_url_says(postgres, schema):
    root = postgres.enable_tls()
    assert opening(postgres.url(schema, more=f"&sslmode=verify-full&sslrootcert={root}")) is None
    fault = opening(postgres.url(schema, more="&sslmode=verify-full&sslrootcert=/nowhere"))
    assert fault.code == "store_unusable" and "/nowhere" in fault.message


def test_the_password_comes_from_the_environment_or_a_file(postgres, schema, monkeypatch, tmp_path):
    url = postgres.url(schema).replace(f":{postgres.password}@", "@")
    assert opening(url).code == "store_unusable"
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    assert opening(url) is None
    monkeypatch.delenv("PGPASSWORD")
    file = tmp_path / "pgpass"
    file.write_text(f"*:*:*:*:{postgres.password}\n")
    file.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(file))
    assert opening(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:hidden@127.0.0.1:1/db",
        "postgresql://u:hid%den@127.0.0.1/db",
        "postgresql://u:hid@hidden@127.0.0.1/db",
        "postgresql://u:hid/hidden@127.0.0.1/db",
        "postgresql://u:hid?hidden@127.0.0.1/db",
        "postgresql://u:hid#hidden@127.0.0.1/db",
        "postgresql://u:hidden",
        "postgresql://u:hidden@127.0.0.1:port/db",
        "postgresql://u:hidden@127.0.0.1/db?unknown=1",
        "postgresql://127.0.0.1:1/db?password=hidden",
        "postgres:/u:hidden@127.0.0.1/db",
        "mysql://u:hidden@127.0.0.1/db",
        "postgresql://u:hidden@nowhere.invalid/db",
    ],
)
def test_a_password_is_never_shown(url):
    try:
        open_store(url, read_only=False)
    except UsageError as fault:
        shown = fault
    else:
        shown = opening(url)
        assert isinstance(shown, PreflightError)
    causes = []
    while shown is not None:
        causes.append(shown)
        shown = shown.__cause__
    assert "hid" not in " ".join(f"{one!r} {getattr(one, 'hint', '')} {getattr(one, 'next', '')}" for one in causes)


def test_addresses_that_libpq_knows():
    for url in ("postgresql:///db?host=/var/run", "postgres://h/db?sslmode=verify-full", "postgresql://u@[::1]:5/db"):
        Place(url, {})
