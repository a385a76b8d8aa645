"""The control plane's store in a file of SQLite keeps the contract."""

from __future__ import annotations

import shutil

import pytest

pytest.importorskip("sqlalchemy")

from sqlalchemy import event

from moorage.serving.model import State
from moorage.serving.store.opening import open_store
from tests.contract.serving_store_acting import (
    CrowdContract,
    LeaseContract,
    ListContract,
    RecordContract,
    WatchContract,
)
from tests.contract.serving_store_contract import AccountContract, DeclaringContract, IdempotencyContract
from tests.contract.serving_store_keeping import PurgeContract, QuotaContract
from tests.contract.serving_store_parts import LEASE, NOW, StoreTests, at, change, kept, spec


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A store that was just made: making one takes longer than most tests."""
    path = tmp_path_factory.mktemp("serving") / "empty.db"
    open_store(f"sqlite:///{path}").close()
    return path


@pytest.fixture
def url(empty, tmp_path):
    return f"sqlite:///{shutil.copy(empty, tmp_path / 'serving.db')}"


class TestAccounts(AccountContract):
    pass


class TestDeclaring(DeclaringContract):
    pass


class TestIdempotency(IdempotencyContract):
    pass


class TestLease(LeaseContract):
    pass


class TestRecord(RecordContract):
    pass


class TestLists(ListContract):
    pass


class TestWatch(WatchContract):
    pass


class TestPurge(PurgeContract):
    pass


class TestQuota(QuotaContract):
    pass


class TestCrowd(CrowdContract):
    pass


class TestPlans(StoreTests):
    def test_nothing_is_searched_from_one_end_to_the_other(self, store):
        """Thousands of deleted models cost those nothing who ask for the others."""
        asked = []
        for engine in (store._database._reads, store._database._writes):
            event.listen(engine, "before_cursor_execute", lambda *about: asked.append(about[2:4]))
        store.create_user("alice", NOW)
        token, secret = store.create_token("alice", NOW)
        model = store.declare("alice", spec(), NOW, kept=kept()).model
        lease = store.take_lease(LEASE, "me", 0, 10)
        store.record([change(model, events=(("E", {}),))], NOW, lease, LEASE)
        store.amend(model.model_key, spec(num_replicas=2), NOW, generation=1)
        for read in (store.live, lambda: store.page(None, 5, None), lambda: store.page("alice", 5, None)):
            read()
        store.named("alice", "m")
        store.whose(secret)
        store.tokens("alice")
        store.users(5, "a")
        store.changed_since(0, "alice")
        store.changed_since(0, None)
        store.revisions(model.model_key)
        store.events(model.model_key, 10)
        store.revoke_token("alice", token.token_id)
        store.delete(model.model_key, NOW)
        store.record([change(store.model(model.model_key), State.DELETED)], NOW, lease, LEASE)
        store.purge(at(1), 1, lease, LEASE)
        store.declare("alice", spec(), NOW, admit=lambda models: None)
        plans = {}
        with store._database._reads.connect() as db:
            for statement, values in list(asked):
                if statement.startswith(("SELECT", "UPDATE", "DELETE")):
                    values = values[0] if isinstance(values, list) else values
                    plan = db.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).all()
                    plans[statement] = " ".join(row.detail for row in plan)
        walked = {detail for detail in plans.values() if "SCAN" in detail or "TEMP B-TREE" in detail}
        assert (walked, len(plans) > 20) == ({"SCAN models USING INDEX models_live"}, True)
