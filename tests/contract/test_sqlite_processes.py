"""Several processes on one file, and processes that are killed."""

from __future__ import annotations

import os

import pytest

pytest.register_assert_rewrite("tests.contract.store_company")

from tests.contract.store_company import CompanyContract, cut_off  # noqa: E402

KILLS = int(os.environ.get("MOORAGE_STORE_KILLS", "20"))


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'store.db'}"


class TestSqliteCompany(CompanyContract):
    pass


def test_what_was_answered_survives_kills(url):
    cut_off(url, KILLS)
