"""Random work on a store beside a plain model of its rules. Two stores have the database open, as two processes do."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from moorage.errors import MoorageError
from moorage.serving.model import State
from moorage.serving.store.contract import Lease
from moorage.serving.store.opening import open_store
from tests.contract.serving_store_parts import LEASE, at, change, kept, spec

USERS = ("alice", "bob")
NAMES = ("m", "n")
WHO = st.sampled_from(USERS)
NAME = st.sampled_from(NAMES)
MANY = st.integers(1, 3)
STATES = st.sampled_from([State.DEPLOYING, State.RUNNING, State.FAILED, State.DELETING, State.DELETED])


@dataclass
class Known:
    """A model as the rules have it."""

    user: str
    name: str
    many: int
    generation: int = 1
    state: State = State.QUEUED
    revisions: list[int] = field(default_factory=list)
    events: list[list[object]] = field(default_factory=list)


class StoreMachine(RuleBasedStateMachine):
    url = ""
    """Of an empty database, by `fresh`."""

    @staticmethod
    def fresh() -> str:
        raise NotImplementedError

    @initialize()
    def open(self):
        self.url = type(self).fresh()
        self.stores = [open_store(self.url), open_store(self.url)]
        self.known: dict[str, Known] = {}
        self.answers: dict[tuple[str, str], tuple[str, dict[str, str]]] = {}
        self.tokens: dict[str, str] = {}
        self.leases: dict[str, Lease] = {}
        self.holder, self.until, self.fence = None, 0.0, 0
        self.now = 0.0
        self.version = 0
        self.changed: set[str] = set()

    def teardown(self):
        for store in getattr(self, "stores", ()):
            store.close()

    @rule(which=st.integers(0, 1))
    def reopen(self, which):
        self.stores[which].close()
        self.stores[which] = open_store(self.url)

    @rule(s=st.floats(0, 20))
    def time_passes(self, s):
        self.now += s

    @rule(
        which=st.integers(0, 1),
        who=WHO,
        name=NAME,
        many=MANY,
        only=st.booleans(),
        key=st.sampled_from([None, "k", "l"]),
    )
    def declare(self, which, who, name, many, only, key):
        body = f"{name}{many}{only}"
        expected, code = self._declared(who, name, many, only, key, body)
        store = self.stores[which]
        try:
            done = store.declare(
                who, spec(name, num_replicas=many), at(self.now), create_only=only, kept=key and kept(key, body)
            )
        except MoorageError as fault:
            assert fault.code == code
            return
        assert code is None
        if expected is None:  # a new one
            self.known[done.model.model_key] = Known(who, name, many, revisions=[1], events=[["DEPLOY_REQUESTED", 1]])
            self.changed.add(done.model.model_key)
            expected = {"model_key": done.model.model_key, "state": "QUEUED"}
            assert done.created and done.changed
        assert done.answer == expected
        if key is not None:
            self.answers[who, key] = body, done.answer

    def _declared(self, who, name, many, only, key, body):
        """The answer (None: of a new model), and the code of the refusal."""
        if (who, key) in self.answers:
            first, answer = self.answers[who, key]
            return answer, None if first == body else "idempotency_key_reused"
        there = [(one, k) for one, k in self.known.items() if (k.user, k.name) == (who, name) and k.state != "DELETED"]
        if not there:
            return None, None
        ((model_key, found),) = there
        if found.state == State.DELETING:
            return None, "model_deleting"
        if only:
            return None, "model_exists"
        self._takes(model_key, many)
        return {"model_key": model_key, "state": found.state.value}, None

    def _takes(self, model_key, many):
        found = self.known[model_key]
        if found.many == many:
            return
        found.many, found.generation, found.state = many, found.generation + 1, State.QUEUED
        found.revisions.append(found.generation)
        found.events.append(["UPDATE_REQUESTED", 1])
        self.changed.add(model_key)

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 1), data=st.data(), many=MANY, off=st.sampled_from([0, 0, 0, 1]))
    def amend(self, which, data, many, off):
        model_key, found = data.draw(st.sampled_from(sorted(self.known.items(), key=lambda one: one[0])))
        code = None
        if found.state in (State.DELETING, State.DELETED):
            code = "model_deleting"
        elif off:
            code = "generation_moved"
        try:
            self.stores[which].amend(
                model_key, spec(found.name, num_replicas=many), at(self.now), generation=found.generation - off
            )
        except MoorageError as fault:
            assert fault.code == code
            return
        assert code is None
        self._takes(model_key, many)

    @precondition(lambda self: self.known)
    @rule(which=st.integers(0, 1), data=st.data())
    def delete(self, which, data):
        model_key, found = data.draw(st.sampled_from(sorted(self.known.items(), key=lambda one: one[0])))
        after = self.stores[which].delete(model_key, at(self.now))
        if found.state not in (State.DELETING, State.DELETED):
            found.state = State.DELETING
            found.events.append(["DELETE_REQUESTED", 1])
            self.changed.add(model_key)
        assert after.state == found.state

    @rule(which=st.integers(0, 1), holder=st.sampled_from(["x", "y"]))
    def take_lease(self, which, holder):
        got = self.stores[which].take_lease(LEASE, holder, at(self.now).timestamp(), 10)
        if self.holder not in (None, holder) and self.until > at(self.now).timestamp():
            assert got is None
            return
        self.fence += self.holder != holder
        self.holder, self.until = holder, at(self.now).timestamp() + 10
        assert (got.holder, got.fence) == (holder, self.fence)
        self.leases[holder] = got

    @precondition(lambda self: self.leases and self.known)
    @rule(which=st.integers(0, 1), data=st.data(), state=STATES, stale=st.booleans(), twice=st.booleans())
    def record(self, which, data, state, stale, twice):
        lease = data.draw(st.sampled_from([self.leases[one] for one in sorted(self.leases)]))
        model_key, found = data.draw(st.sampled_from(sorted(self.known.items(), key=lambda one: one[0])))
        was = data.draw(st.sampled_from(list(State)))
        store = self.stores[which]
        news = ((state.value, {}),) * (1 + twice)
        seen = store.model(model_key)
        noted = change(seen, state, was=was, generation=found.generation - stale, events=news)
        try:
            taken = store.record([noted], at(self.now), lease, LEASE)
        except MoorageError as fault:
            assert fault.code == "lease_lost"
            assert (lease.holder, lease.fence) != (self.holder, self.fence)
            return
        assert (lease.holder, lease.fence) == (self.holder, self.fence)
        going = ("DELETING", "DELETED")
        fits = not stale and found.state != "DELETED"
        if found.state == "DELETING":
            fits = fits and was in going and state in going
        assert taken == fits
        if fits:
            found.state = state
            for name, _ in news:
                if found.events[-1][0] == name:
                    found.events[-1][1] += 1
                else:
                    found.events.append([name, 1])
            self.changed.add(model_key)

    @precondition(lambda self: self.leases)
    @rule(which=st.integers(0, 1), data=st.data(), keep_s=st.sampled_from([None, 0, 10, 1e9, 1e300]))
    def purge(self, which, data, keep_s):
        lease = data.draw(st.sampled_from([self.leases[one] for one in sorted(self.leases)]))
        store = self.stores[which]
        old = {
            key
            for key, one in self.known.items()
            if one.state == State.DELETED
            and keep_s is not None
            and store.model(key).updated_at <= at(self.now) - timedelta(seconds=min(keep_s, 1e9))
        }
        try:
            done = store.purge(at(self.now), keep_s, lease, LEASE)
        except MoorageError as fault:
            assert fault.code == "lease_lost"
            assert (lease.holder, lease.fence) != (self.holder, self.fence)
            return
        assert (lease.holder, lease.fence) == (self.holder, self.fence)
        assert (done.models, done.answers, done.has_more) == (len(old), 0, False)
        for key in old:
            del self.known[key]
            assert (store.revisions(key), store.events(key, 10)) == ((), ())

    @rule(which=st.integers(0, 1), who=WHO)
    def a_token(self, which, who):
        store = self.stores[which]
        if not store.has_user(who):
            store.create_user(who, at(self.now))
        _, secret = store.create_token(who, at(self.now))
        self.tokens[secret] = who
        assert store.whose(secret) == who

    @precondition(lambda self: self.tokens)
    @rule(which=st.integers(0, 1), data=st.data())
    def revoke(self, which, data):
        store = self.stores[which]
        secret, who = data.draw(st.sampled_from(sorted(self.tokens.items())))
        place = [one for one, owner in self.tokens.items() if owner == who].index(secret)
        store.revoke_token(who, store.tokens(who)[place].token_id)
        del self.tokens[secret]
        assert store.whose(secret) is None

    @invariant()
    def agrees(self):
        if not hasattr(self, "stores"):
            return
        store = self.stores[0]
        live = {one.model_key: one for one in store.live()}
        expected = {key: one for key, one in self.known.items() if one.state != "DELETED"}
        assert [one.model_key for one in store.page(None, 100, None).items] == list(expected)
        for key, one in expected.items():
            assert (live[key].generation, live[key].state) == (one.generation, one.state)
            assert live[key].spec.num_replicas == one.many
        assert all(self.stores[1].whose(secret) == who for secret, who in self.tokens.items())
        now, changed = self.stores[1].changed_since(self.version, None)
        assert {one.model_key for one in changed} == self.changed
        assert now >= self.version
        for model in changed:
            known = self.known[model.model_key]
            assert (model.state, model.generation) == (known.state, known.generation)
            assert [one.generation for one in store.revisions(model.model_key)] == known.revisions
            events = store.events(model.model_key, 1000)
            assert [[one.event_type, one.count] for one in events] == known.events
        self.version, self.changed = now, set()
