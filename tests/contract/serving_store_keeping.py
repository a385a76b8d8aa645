"""What every store of the control plane promises of what is over, and of how much one user may have."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import func, select

from moorage.errors import NotFoundError, UsageError
from moorage.serving.model import State
from moorage.serving.store import purging
from moorage.serving.store.opening import open_store
from moorage.serving.store.schema import EVENTS, KEPT, MODELS, REVISIONS
from tests.contract.serving_store_parts import LEASE, NOW, StoreTests, at, change, kept, more_replicas, refused, spec

DAY = 24 * 3600


class PurgeContract(StoreTests):
    def purged(self, store, now, keep_deleted_s):
        lease = store.take_lease(LEASE, "me", NOW.timestamp(), 60)
        return store.purge(now, keep_deleted_s, lease, LEASE)

    def test_a_model_goes_when_it_has_been_deleted_for_so_long(self, store):
        model = store.declare("alice", spec(), NOW).model
        store.amend(model.model_key, more_replicas(model, 2), NOW, generation=1)
        gone = self.gone(store, store.model(model.model_key))
        assert gone.updated_at == at(1)
        assert self.purged(store, at(1 + DAY - 0.001), DAY).models == 0
        assert store.model(gone.model_key) == gone
        done = self.purged(store, at(1 + DAY), DAY)
        assert (done.models, done.has_more, self.purged(store, at(1 + DAY), DAY).models) == (1, False, 0)
        with pytest.raises(NotFoundError):
            store.model(gone.model_key)
        assert rows(store) == {"models": 0, "events": 0, "revisions": 0, "kept": 0}
        again = store.declare("alice", spec(), at(DAY)).model
        assert again.model_key != gone.model_key

    def test_nothing_goes_that_is_not_deleted(self, store):
        living = [store.declare("alice", spec(state.value), NOW).model for state in State]
        self.acting(
            store, *(change(one, State(one.suffix)) for one in living if one.suffix not in ("DELETED", "QUEUED"))
        )
        living = list(store.live())
        events, revisions = {}, {}
        for one in living:
            events[one.model_key], revisions[one.model_key] = (
                store.events(one.model_key, 9),
                store.revisions(one.model_key),
            )
        other = self.gone(store, living[-1])
        for keep_s in (0, 0.5):
            self.purged(store, at(1e9), keep_s)
        assert refused(lambda: store.model(other.model_key)) == "model_not_found"
        assert store.live() == tuple(living[:-1])
        assert {one.state for one in store.live()} == set(State) - {State.DELETED}
        for one in store.live():
            assert store.events(one.model_key, 9) == events[one.model_key]
            assert store.revisions(one.model_key) == revisions[one.model_key]

    def test_what_is_kept_for_ever_or_nearly_stays(self, store):
        gone = self.gone(store, store.declare("alice", spec(), NOW).model)
        for keep_s in (None, 1e300, 1e12):
            assert self.purged(store, at(1e9), keep_s).models == 0
        assert store.model(gone.model_key) == gone

    def test_who_lost_the_lease_purges_nothing(self, store):
        gone = self.gone(store, store.declare("alice", spec(), NOW).model)
        mine = store.take_lease(LEASE, "me", NOW.timestamp(), 60)
        store.give_lease_back(mine, LEASE)
        assert refused(lambda: store.purge(at(DAY), 0, mine, LEASE)) == "lease_lost"
        assert store.model(gone.model_key) == gone

    def test_it_goes_in_parts_the_oldest_first(self, store, monkeypatch):
        monkeypatch.setattr(purging, "MOST_ROWS", 9)
        models = [store.declare("alice", spec(f"m{n}"), NOW).model for n in range(5)]
        for n, model in enumerate(reversed(models)):
            marked = store.delete(model.model_key, NOW)
            self.acting(store, change(marked, State.DELETED), now=at(n))
        version, left = store.version(), [model.model_key for model in reversed(models)]
        counts = []
        while True:
            done = self.purged(store, at(DAY), 1)
            counts.append(done.models)
            left = left[done.models :]
            with store._database.read() as db:
                found = db.execute(select(MODELS.c.model_key).order_by(MODELS.c.updated_at)).scalars().all()
            assert found == left
            if not done.has_more:
                break
        assert counts == [2, 2, 1], "each has two events and a revision"
        assert store.version() == version, "nobody needs to hear of it"

    def test_one_that_is_larger_than_a_part_goes_too(self, store, monkeypatch):
        monkeypatch.setattr(purging, "MOST_ROWS", 1)
        self.gone(store, store.declare("alice", spec(), NOW).model)
        assert self.purged(store, at(DAY), 1).models == 1

    def test_who_has_not_heard_of_all_that_went_is_told_so(self, store):
        model, other = (store.declare(user, spec(), NOW).model for user in ("alice", "bob"))
        before = store.version()
        self.gone(store, model)
        heard = store.version()
        store.amend(other.model_key, more_replicas(other, 2), NOW, generation=1)
        assert len(store.changed_since(before, None)[1]) == 2
        self.purged(store, at(DAY), 1)
        for version in (before, 0, -1, 10**30):
            for user in ("alice", "bob", None):
                assert refused(lambda of=user, v=version: store.changed_since(v, of)) == "version_forgotten"
        assert [one.user_id for one in store.changed_since(heard, None)[1]] == ["bob"]

    def test_old_answers_go_and_younger_ones_stay(self, store, monkeypatch):
        monkeypatch.setattr(purging, "MOST_ANSWERS", 3)
        for n in range(8):
            store.declare("alice", spec(), at(n), kept=kept(f"k{n}"))
        now = at(DAY + 4)
        done = [self.purged(store, now, None) for _ in range(3)]
        assert [(one.answers, one.has_more) for one in done] == [(3, True), (2, False), (0, False)]
        assert rows(store)["kept"] == 3
        assert [store.kept_answer("alice", kept(f"k{n}"), at(9)) is not None for n in (4, 5, 7)] == [False, True, True]

    def test_an_answer_may_outlive_its_model(self, store):
        first = store.declare("alice", spec(), NOW, kept=kept())
        self.gone(store, first.model)
        self.purged(store, at(60), 1)
        again = store.declare("alice", spec(), at(61), kept=kept())
        assert (again.answer, again.model, again.created, again.changed) == (first.answer, None, False, False)
        assert store.live() == ()


class QuotaContract(StoreTests):
    """Several stores of one database stand for several processes."""

    MOST = 5

    @pytest.fixture
    def stores(self, url):
        stores = [open_store(url, patience_s=60) for _ in range(2)]
        yield stores
        for store in stores:
            store.close()

    def test_it_is_told_what_the_user_has(self, store):
        told = []
        mine = [store.declare("alice", spec(f"m{n}"), NOW).model for n in range(3)]
        store.declare("bob", spec(), NOW, admit=lambda models: told.append(tuple(models)))
        self.gone(store, mine[0])
        store.declare("alice", spec("m9"), NOW, admit=lambda models: told.append(tuple(models)))
        store.amend(
            mine[1].model_key,
            more_replicas(mine[1], 2),
            NOW,
            generation=1,
            admit=lambda models: told.append(tuple(models)),
        )
        assert [[one.suffix for one in models] for models in told] == [[], ["m1", "m2"], ["m1", "m2", "m9"]]
        assert told[1] == tuple(mine[1:])

    def test_what_is_refused_leaves_nothing(self, store):
        model = store.declare("alice", spec(), NOW).model
        before = (store.version(), rows(store))

        def no(models):
            raise UsageError("no", code="quota_exceeded")

        for work in (
            lambda: store.declare("alice", spec("n"), NOW, admit=no, kept=kept()),
            lambda: store.declare("alice", more_replicas(model, 2), NOW, admit=no, kept=kept()),
            lambda: store.amend(model.model_key, more_replicas(model, 2), NOW, generation=1, admit=no),
        ):
            assert refused(work) == "quota_exceeded"
        assert (store.version(), rows(store), store.model(model.model_key)) == (*before, model)

    def test_a_repetition_is_answered_without_asking(self, store):
        def no(models):
            raise UsageError("no", code="quota_exceeded")

        first = store.declare("alice", spec(), NOW, kept=kept())
        assert store.declare("alice", spec(), NOW, kept=kept(), admit=no).answer == first.answer

    def test_of_many_new_ones_at_once_none_is_one_over(self, stores):
        workers = 8
        start = threading.Barrier(workers)

        def admit(models):
            if len(models) >= self.MOST:
                raise UsageError("too many", code="quota_exceeded")

        def post(worker):
            start.wait()
            codes = []
            for n in range(6):
                wanted = spec(f"w{worker}-{n}")
                work = lambda: stores[worker % 2].declare("alice", wanted, NOW, admit=admit)  # noqa: E731,B023
                codes.append(taken(work))
                assert len(stores[n % 2].page("alice", 100, None).items) <= self.MOST
            return codes

        with ThreadPoolExecutor(workers) as pool:
            codes = [code for some in pool.map(post, range(workers)) for code in some]
        assert sorted(codes) == ["quota_exceeded"] * (6 * workers - self.MOST) + ["taken"] * self.MOST
        assert len(stores[0].live()) == self.MOST

    def test_of_many_that_grow_at_once_none_is_one_over(self, stores):
        models = [stores[0].declare("alice", spec(f"m{n}"), NOW).model for n in range(4)]
        most, workers = 11, 8
        start = threading.Barrier(workers)

        def grow(worker):
            store, key = stores[worker % 2], models[worker % 4].model_key
            start.wait()
            for _ in range(12):
                seen = store.model(key)
                wanted = replace(seen.spec, num_replicas=seen.spec.num_replicas + 1)

                def admit(found, wanted=wanted):
                    if sum(one.spec.num_replicas for one in found if one.model_key != key) + wanted.num_replicas > most:
                        raise UsageError("too many", code="quota_exceeded")

                taken(lambda: store.amend(key, wanted, NOW, generation=seen.generation, admit=admit))  # noqa: B023
                assert sum(one.spec.num_replicas for one in store.live()) <= most

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(grow, range(workers)))
        assert sum(one.spec.num_replicas for one in stores[0].live()) == most


def taken(work) -> str:
    """ "taken", or the code of the refusal."""
    from moorage.errors import MoorageError

    try:
        work()
    except MoorageError as fault:
        assert fault.code in ("quota_exceeded", "generation_moved")
        return fault.code
    return "taken"


def rows(store) -> dict[str, int]:
    """How many of each the database holds."""
    with store._database.read() as db:
        return {
            table.name: db.execute(select(func.count()).select_from(table)).scalar_one()
            for table in (MODELS, EVENTS, REVISIONS, KEPT)
        }
