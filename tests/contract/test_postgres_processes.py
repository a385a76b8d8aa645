"""Several processes on one database, and kills: of the processes, and of the server under them."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("psycopg")
pytest.register_assert_rewrite("tests.contract.store_company")

from tests.contract.store_company import CompanyContract, cut_off  # noqa: E402

pytestmark = pytest.mark.postgres
KILLS = int(os.environ.get("MOORAGE_STORE_KILLS", "4"))


@pytest.fixture
def url(postgres):
    return postgres.url(postgres.new_schema())


class TestPostgresCompany(CompanyContract):
    pass


def test_what_was_answered_survives_kills(url, postgres):
    """Every second time the server is killed as well, in the middle of whatever it does."""

    def crash(kill: int) -> None:
        if kill % 2:
            postgres.kill()
            postgres.start()

    try:
        cut_off(url, KILLS, crash)
    finally:
        if not postgres.answers():
            postgres.start()
