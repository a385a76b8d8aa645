"""What every store of the control plane promises to reconcilers, lists and watchers, and to many at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import event as sql_event

from moorage.errors import MoorageError
from moorage.serving.model import Condition, FailureLog, ModelEndpoint, Progress, State
from moorage.serving.reasons import Reason
from moorage.serving.store.events import MOST_EVENTS
from moorage.serving.store.opening import open_store
from tests.contract.serving_store_parts import (
    HOSTILE,
    LEASE,
    NOW,
    StoreTests,
    at,
    change,
    kept,
    more_replicas,
    refused,
    spec,
)

WHEN = NOW.timestamp()


class LeaseContract(StoreTests):
    def test_one_holds_it_at_a_time(self, store):
        mine = store.take_lease(LEASE, "me", WHEN, 10)
        assert (mine.holder, mine.fence, mine.until) == ("me", 1, WHEN + 10)
        assert store.take_lease(LEASE, "you", WHEN + 9.9, 10) is None
        longer = store.take_lease(LEASE, "me", WHEN + 9.9, 10)
        assert (longer.fence, longer.until) == (1, WHEN + 19.9)
        assert store.take_lease(LEASE, "you", WHEN + 19, 10) is None
        yours = store.take_lease(LEASE, "you", WHEN + 19.9, 10)
        assert (yours.holder, yours.fence) == ("you", 2)
        assert store.take_lease(LEASE, "me", WHEN + 20, 10) is None
        assert store.take_lease("another", "me", WHEN, 10).fence == 1

    def test_who_lost_it_records_nothing(self, store):
        model = store.declare("alice", spec(), NOW).model
        mine = store.take_lease(LEASE, "me", WHEN, 10)
        assert store.record([change(model)], at(11), mine, LEASE) == 1  # it ran out, and nobody else took it
        store.take_lease(LEASE, "you", WHEN + 11, 10)
        model = store.model(model.model_key)
        assert refused(lambda: store.record([change(model, State.RUNNING)], at(12), mine, LEASE)) == "lease_lost"
        assert refused(lambda: store.record([], at(12), mine, "none")) == "lease_lost"
        assert store.model(model.model_key) == model
        store.give_lease_back(mine, LEASE)  # not mine any more
        assert store.take_lease(LEASE, "me", WHEN + 12, 10) is None

    def test_one_that_was_given_back_can_be_taken_at_once(self, store):
        mine = store.take_lease(LEASE, "me", WHEN, 1000)
        store.give_lease_back(mine, LEASE)
        assert refused(lambda: store.record([], NOW, mine, LEASE)) == "lease_lost"
        assert store.take_lease(LEASE, "you", WHEN, 10).fence == 2

    def test_one_of_a_holder_that_is_gone_need_not_run_out(self, store):
        mine = store.take_lease(LEASE, "me", WHEN, 1000)
        assert store.take_lease(LEASE, "you", WHEN, 1000, lambda holder: holder != "me") is None
        assert store.take_lease(LEASE, "you", WHEN, 1000, lambda holder: holder == "me").fence == 2
        assert refused(lambda: store.record([], NOW, mine, LEASE)) == "lease_lost"


class RecordContract(StoreTests):
    def test_what_was_found_out_is_kept(self, store):
        model = store.declare("alice", spec(), NOW).model
        found = Condition(
            type="Healthy", status=False, reason=Reason.STARTING, message="é\0", changed_at=at(3), generation=1
        )
        progress = Progress(
            serving_generation=1,
            serving=model.spec,
            endpoints=(ModelEndpoint(base_url="http://h/v1", model="m", adapters=("a",)),),
            attempts=3,
            not_before=0.0,
            deadline=12.25,
            drain_until=1e9,
        )
        noted = change(
            model,
            State.FAILED,
            observed_generation=1,
            error_summary="bad \0\ud800 words",
            conditions=(found,),
            progress=progress,
            events=(("FAILED", {"why": "é\0"}),),
        )
        assert self.acting(store, noted, now=at(4)) == 1
        after = store.model(model.model_key)
        assert (after.state, after.observed_generation, after.updated_at) == (State.FAILED, 1, at(4))
        assert after.error_summary == "bad \ufffd? words"
        assert (after.conditions, after.progress, after.etag) == ((found,), progress, model.etag)
        assert store.events(model.model_key, 10)[-1].payload == {"why": "é\0"}

    def test_the_log_of_the_last_failure_is_kept_until_the_model_is_gone(self, store):
        model, other = store.declare("alice", spec(), NOW).model, store.declare("alice", spec("n"), NOW).model
        first = FailureLog(app="a-1", failed_at=at(1), lines=("r é\0\u2028", "", "r" * 5000))
        assert store.failure_log(model.model_key) is None
        assert self.acting(store, change(model, failure_log=first), change(other)) == 2
        assert (store.failure_log(model.model_key), store.failure_log(other.model_key)) == (first, None)
        assert self.acting(store, change(model, state=State.RUNNING)) == 1  # which says nothing of any failure
        assert store.failure_log(model.model_key) == first
        second = FailureLog(app="a-2", failed_at=at(9), lines=("r",))
        lost = change(model, failure_log=second, generation=7)
        assert self.acting(store, lost) == 0
        assert store.failure_log(model.model_key) == first
        self.acting(store, change(store.model(model.model_key), failure_log=second))
        assert store.failure_log(model.model_key) == second
        self.gone(store, store.model(model.model_key))
        assert [store.failure_log(key) for key in (model.model_key, *HOSTILE)] == [None] * (1 + len(HOSTILE))

    def test_nothing_new_is_nothing_to_hear_of(self, store):
        model = store.declare("alice", spec(), NOW).model
        self.acting(store, change(model))
        before, model = store.version(), store.model(model.model_key)
        assert self.acting(store, change(model), now=at(50)) == 1
        assert (store.version(), store.model(model.model_key)) == (before, model)

    def test_what_the_pass_did_not_know_drops_its_change(self, store):
        moved, marked, gone, fine = (store.declare("alice", spec(name), NOW).model for name in "abcd")
        store.amend(moved.model_key, more_replicas(moved, 2), NOW, generation=1)
        store.delete(marked.model_key, NOW)
        gone = self.gone(store, gone)
        expected = {one.model_key: store.model(one.model_key) for one in (moved, marked, gone)}
        news = (("NEWS", {}),)
        assert (
            self.acting(
                store,
                change(moved, State.RUNNING, events=news),
                change(marked, State.RUNNING, events=news),
                change(marked, State.DELETED, events=news),
                change(expected[marked.model_key], State.RUNNING, events=news),
                change(gone, State.DELETING, events=news),
                change(replace(gone, state=State.DELETING), State.DELETED, events=news),
                change(replace(fine, model_key="unknown"), State.RUNNING, events=news),
                change(fine, State.RUNNING, events=news),
            )
            == 1
        )
        assert {key: store.model(key) for key in expected} == expected
        assert store.named("alice", "d").state == State.RUNNING
        assert [one.event_type for one in store.events(moved.model_key, 10)] == ["DEPLOY_REQUESTED", "UPDATE_REQUESTED"]

    def test_a_model_may_be_named_twice(self, store):
        model = store.declare("alice", spec(), NOW).model
        news = (("NEWS", {}),)
        self.acting(store, change(model, State.DEPLOYING, events=news), change(model, State.RUNNING, events=news))
        assert store.model(model.model_key).state == State.RUNNING
        assert store.events(model.model_key, 10)[-1].count == 2

    def test_the_same_event_again_is_counted(self, store):
        model = store.declare("alice", spec(), NOW).model
        key = model.model_key
        again = ("BACKED_OFF", {"reason": "NoCapacity"})
        self.acting(store, change(model, events=(again, again)), now=at(1))
        self.acting(store, change(model, events=(again,)), now=at(2))
        first, counted = store.events(key, 10)
        assert (counted.count, counted.created_at, counted.last_at) == (3, at(1), at(2))
        assert counted.sequence > first.sequence
        # Another payload, another type, or something in between, is another event.
        self.acting(store, change(model, events=(("BACKED_OFF", {"reason": "x"}), again, again)), now=at(3))
        assert [(one.event_type, one.count) for one in store.events(key, 10)[2:]] == [
            ("BACKED_OFF", 1),
            ("BACKED_OFF", 2),
        ]
        assert store.events(key, 10, after=counted.sequence) == store.events(key, 10)[2:]
        assert store.events(key, 2) == store.events(key, 10)[:2]
        assert (store.events(key, 0), store.events(key, 10, after=10**30)) == ((), ())
        assert store.events(key, 10**30, after=-5) == store.events(key, 10)

    def test_events_are_bounded_and_the_first_one_stays(self, store):
        model, other = (store.declare("alice", spec(name), NOW).model for name in "ab")
        many = tuple(("TICK", {"n": n}) for n in range(MOST_EVENTS + 50))
        self.acting(store, change(model, events=many[:700]), change(other, events=many[:1]))
        self.acting(store, change(model, events=many[700:]))
        self.acting(store, change(model, events=(("LAST", {}),)))
        found = store.events(model.model_key, 5000)
        assert (len(found), found[0].event_type, found[-1].event_type) == (MOST_EVENTS, "DEPLOY_REQUESTED", "LAST")
        assert [one.payload["n"] for one in found[1:-1]] == list(range(52, MOST_EVENTS + 50))
        assert len(store.events(other.model_key, 10)) == 2


class ListContract(StoreTests):
    def test_pages_are_walked_oldest_first(self, store):
        made = [store.declare("alice" if n % 3 else "bob", spec(f"m{n}"), at(-n)).model for n in range(11)]
        mine = [one for one in made if one.user_id == "alice"]
        for owner, expected in (("alice", mine), (None, made), ("nobody", [])):
            for limit in (1, 3, 7, 100, 10**30):
                assert list(walk(store, owner, limit)) == expected
        # What is added or deleted while somebody walks moves nothing else.
        page = store.page("alice", 3, None)
        store.delete(mine[1].model_key, NOW)
        self.acting(store, change(store.model(mine[1].model_key), State.DELETED))
        later = store.declare("alice", spec("later"), at(-99)).model
        assert store.page("alice", 100, page.next_token).items == (*mine[3:], later)

    def test_they_can_be_of_one_state(self, store):
        made = [store.declare("alice", spec(f"m{n}"), NOW).model for n in range(6)]
        self.acting(store, *(change(one, State.RUNNING) for one in made[::2]))
        assert [one.suffix for one in store.page("alice", 2, None, state=State.RUNNING).items] == ["m0", "m2"]
        assert [one.suffix for one in store.page(None, 9, None, state=State.QUEUED).items] == ["m1", "m3", "m5"]
        assert store.page("alice", 9, None, state=State.DELETED).items == ()

    @pytest.mark.parametrize("token", ["x", "MQ==", "MQ", "LTE", "MDE", "OTk5OTk5OTk5OTk5OTk5OTk5OTk", "MQ\n", "€"])
    def test_a_token_that_is_none_is_refused(self, store, token):
        if token == "MQ":
            store.page("alice", 1, token)  # this one is
            return
        assert refused(lambda: store.page("alice", 1, token)) == "bad_page_token"

    def test_a_page_asks_as_often_for_many_as_for_one(self, store):
        asked = []
        sql_event.listen(store._database._reads, "before_cursor_execute", lambda *about: asked.append(about[2]))
        for n in range(40):
            store.declare("alice", spec(f"m{n}"), NOW)
        for read in (lambda: store.page("alice", 30, None), store.live, lambda: store.changed_since(0, None)):
            asked.clear()
            read()
            assert len([one for one in asked if one.startswith("SELECT")]) <= 2


class WatchContract(StoreTests):
    def test_the_version_grows_with_every_change_and_with_nothing_else(self, store):
        def grows(work):
            before = store.version()
            work()
            assert store.version() > before

        def stays(work):
            before = store.version()
            work()
            assert store.version() == before

        grows(lambda: store.create_user("alice", NOW))
        grows(lambda: store.create_token("alice", NOW))
        grows(lambda: store.revoke_token("alice", store.tokens("alice")[0].token_id))
        grows(lambda: store.declare("alice", spec(), NOW, kept=kept()))
        stays(lambda: store.declare("alice", spec(), NOW, kept=kept()))
        stays(lambda: store.declare("alice", spec(), NOW))
        model = store.named("alice", "m")
        grows(lambda: store.amend(model.model_key, more_replicas(model, 2), NOW, generation=1))
        stays(lambda: refused(lambda: store.amend(model.model_key, spec(), NOW, generation=1)))
        stays(lambda: store.take_lease(LEASE, "me", WHEN, 60))
        model = store.model(model.model_key)
        grows(lambda: self.acting(store, change(model)))
        grows(lambda: self.acting(store, change(model, events=(("E", {}),))))
        grows(lambda: self.acting(store, change(model, events=(("E", {}),))))
        grows(lambda: store.delete(model.model_key, NOW))
        stays(lambda: store.delete(model.model_key, NOW))

    def test_a_watcher_gets_what_changed_and_only_that(self, store):
        models = [store.declare(user, spec(), NOW).model for user in ("alice", "bob", "carol")]
        version = store.version()
        assert store.changed_since(version, None) == (version, ())
        assert store.changed_since(0, None) == (version, tuple(models))
        assert store.changed_since(0, "bob") == (version, (models[1],))
        deleted = self.gone(store, models[0])
        now, changed = store.changed_since(version, None)
        assert (now > version, changed) == (True, (deleted,))
        assert store.changed_since(version, "bob") == (now, ())
        # From before a backup was put back: nothing can be said but all.
        assert len(store.changed_since(10**30, None)[1]) == len(store.changed_since(-1, None)[1]) == 3


class CrowdContract(StoreTests):
    """Several stores of one database stand for several processes."""

    @pytest.fixture
    def stores(self, url):
        stores = [open_store(url, patience_s=60) for _ in range(3)]
        yield stores
        for store in stores:
            store.close()

    def test_first_posts_of_one_suffix_at_once_make_one_model(self, stores):
        start = threading.Barrier(9)

        def post(n):
            start.wait()
            return stores[n % 3].declare("alice", spec("one"), NOW)

        with ThreadPoolExecutor(9) as pool:
            done = list(pool.map(post, range(9)))
        assert sorted(one.created for one in done) == [False] * 8 + [True]
        assert len({one.model.model_key for one in done}) == 1
        assert len(stores[0].live()) == 1

    def test_of_changes_to_one_generation_one_is_taken(self, stores):
        model = stores[0].declare("alice", spec(), NOW).model

        def change_it(n):
            taken = 0
            for _ in range(5):
                seen = stores[n % 3].model(model.model_key)
                wanted = more_replicas(model, seen.spec.num_replicas + 1)
                try:
                    taken += stores[n % 3].amend(model.model_key, wanted, NOW, generation=seen.generation).changed
                except MoorageError as fault:
                    assert fault.code == "generation_moved"
            return taken

        with ThreadPoolExecutor(6) as pool:
            taken = sum(pool.map(change_it, range(6)))
        after = stores[0].model(model.model_key)
        assert after.generation == after.spec.num_replicas == taken + 1
        assert [one.generation for one in stores[0].revisions(model.model_key)] == list(range(1, taken + 2))

    def test_one_key_has_one_effect(self, stores):
        def post(n):
            return stores[n % 3].declare("alice", spec(num_replicas=1 + n % 2), at(n), kept=kept(body="same")).answer

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(post, range(8)))
        assert all(one == answers[0] for one in answers)
        assert stores[0].live()[0].generation == 1

    def test_of_many_who_want_the_lease_one_gets_it(self, stores):
        with ThreadPoolExecutor(9) as pool:
            got = list(pool.map(lambda n: stores[n % 3].take_lease(LEASE, f"h{n}", WHEN, 10), range(9)))
        assert len([one for one in got if one is not None]) == 1

    def test_a_watcher_misses_nothing(self, stores):
        many, writers = 12, 4
        done = threading.Event()
        seen, versions = set(), [0]

        def write(n):
            for k in range(many):
                stores[n % 3].declare(f"u{n}", spec(f"m{k}"), NOW)

        def watch():
            while True:
                last = done.is_set()
                version, models = stores[2].changed_since(versions[-1], None)
                assert version >= versions[-1]
                versions.append(version)
                seen.update(one.alias for one in models)
                if last:
                    return

        with ThreadPoolExecutor(writers + 1) as pool:
            watching = pool.submit(watch)
            list(pool.map(write, range(writers)))
            done.set()
            watching.result(60)
        assert seen == {f"u{n}/m{k}" for n in range(writers) for k in range(many)}


def walk(store, owner, limit):
    token = None
    while True:
        page = store.page(owner, limit, token)
        assert len(page.items) <= limit
        yield from page.items
        if page.next_token is None:
            return
        token = page.next_token
