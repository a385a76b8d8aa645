"""What every store of the control plane promises of users, tokens and what users declare."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select

from moorage.errors import NotFoundError
from moorage.serving.model import Progress, State
from moorage.serving.reasons import Reason
from moorage.serving.spec.spec import Adapter, Autoscaling
from moorage.serving.store.schema import METADATA
from tests.contract.serving_store_parts import HOSTILE, NOW, StoreTests, at, change, kept, more_replicas, refused, spec


class AccountContract(StoreTests):
    def test_a_user_is_made_once(self, store):
        assert not store.has_user("alice")
        store.create_user("alice", NOW)
        assert store.has_user("alice")
        assert refused(lambda: store.create_user("alice", at(1))) == "user_exists"

    def test_users_are_listed_in_the_order_of_their_code_points(self, store):
        names = ["a", "a-b", "a0", "a_b", "ab", "b"]
        for name in reversed(names):
            store.create_user(name, NOW)
        assert [user.user_id for user in store.users(100)] == names
        assert [user.user_id for user in store.users(2, "a-b")] == ["a0", "a_b"]
        assert (store.users(1)[0].created_at, store.users(0), store.users(10**30, "b")) == (NOW, (), ())

    def test_a_secret_is_said_once_and_never_stored(self, store):
        store.create_user("alice", NOW)
        token, secret = store.create_token("alice", NOW)
        other, second = store.create_token("alice", at(1))
        assert secret.startswith("moor_sk_") and len(secret) == len("moor_sk_") + 64 and secret != second
        assert store.tokens("alice") == (token, other)
        assert (store.whose(secret), store.whose(second), store.whose(secret[:-1]), store.whose("")) == (
            "alice",
            "alice",
            None,
            None,
        )
        assert [one.user_id for one in store.token_digests()] == ["alice", "alice"]
        assert secret not in everything(store) and secret[8:] not in everything(store)
        assert secret not in repr(token)

    def test_a_revoked_token_is_nobodys(self, store):
        for name in ("alice", "bob"):
            store.create_user(name, NOW)
        token, secret = store.create_token("alice", NOW)
        assert refused(lambda: store.revoke_token("bob", token.token_id)) == "token_not_found"
        assert store.whose(secret) == "alice"
        store.revoke_token("alice", token.token_id)
        assert (store.whose(secret), store.tokens("alice"), store.token_digests()) == (None, (), ())
        assert refused(lambda: store.revoke_token("alice", token.token_id)) == "token_not_found"

    def test_unknown_users_are_named(self, store):
        for work in (
            lambda: store.create_token("no", NOW),
            lambda: store.tokens("no"),
            lambda: store.revoke_token("no", "tok"),
        ):
            with pytest.raises(NotFoundError, match="'no'"):
                work()

    def test_nothing_that_is_asked_for_is_a_fault(self, store):
        store.create_user("alice", NOW)
        for text in HOSTILE:
            assert (store.whose(text), store.has_user(text), store.named(text, text)) == (None, False, None)
            assert (store.revisions(text), store.events(text, 10)) == ((), ())
            assert store.page(text, 10, None).items == ()
            assert store.changed_since(0, text)[1] == ()
            store.users(5, text)
            for work in (
                lambda text=text: store.model(text),
                lambda text=text: store.delete(text, NOW),
                lambda text=text: store.amend(text, spec(), NOW, generation=1),
                lambda text=text: store.tokens(text),
                lambda text=text: store.revoke_token("alice", text),
            ):
                with pytest.raises(NotFoundError):
                    work()
            assert refused(lambda text=text: store.page("alice", 10, text)) == "bad_page_token"
            assert store.kept_answer("alice", kept(text), NOW) is None
            assert not store.declare("alice", spec("k"), NOW, kept=kept(text)).changed or text == HOSTILE[0]
            assert store.kept_answer("alice", kept(text), NOW) is not None


class DeclaringContract(StoreTests):
    def test_a_new_suffix_makes_a_model(self, store):
        wanted = spec(
            "Qwen-0.5b",
            engine_kwargs={"a": {"b": [1, 2.5, None, "\ud800\0é"]}},
            ttl_s=3.5,
            autoscaling=Autoscaling(min_replicas=1, max_replicas=4),
            lora=(Adapter(name="x", source="org/x"),),
        )
        declared = store.declare("alice", wanted, NOW)
        model = declared.model
        assert (declared.created, declared.changed) == (True, True)
        assert declared.answer == {"model_key": model.model_key, "state": "QUEUED"}
        assert model.model_key.startswith("svc-alice-20260106-123000-")
        assert (model.model_id, model.alias) == ("alice-202601061230-Qwen-0.5b", "alice/Qwen-0.5b")
        assert (model.generation, model.observed_generation, model.state) == (1, 0, State.QUEUED)
        assert (model.created_at, model.updated_at, model.accepted_at) == (NOW, NOW, NOW)
        assert (model.spec, model.error_summary, model.progress) == (wanted, None, Progress())
        assert [(one.type, one.status, one.reason) for one in model.conditions] == [
            ("Accepted", True, Reason.ACCEPTED),
            ("Applied", None, Reason.WAITING),
            ("Healthy", None, Reason.WAITING),
            ("Ready", False, Reason.WAITING),
        ]
        assert store.model(model.model_key) == model == store.named("alice", "Qwen-0.5b")
        assert store.live() == (model,) == store.page("alice", 10, None).items
        (event,) = store.events(model.model_key, 10)
        assert (event.event_type, event.count, event.created_at) == ("DEPLOY_REQUESTED", 1, NOW)
        (revision,) = store.revisions(model.model_key)
        assert (revision.generation, revision.spec, revision.created_at) == (1, wanted, NOW)

    def test_the_same_again_changes_nothing(self, store):
        first = store.declare("alice", spec(engine_kwargs={"a": 1, "b": 2}), NOW)
        before = store.version()
        again = store.declare("alice", spec(engine_kwargs={"b": 2, "a": 1}), at(9))
        assert (again.model, again.created, again.changed) == (first.model, False, False)
        assert (store.version(), len(store.events(first.model.model_key, 10))) == (before, 1)

    def test_another_spec_is_another_generation_of_the_same_model(self, store):
        first = store.declare("alice", spec(), NOW).model
        serving = Progress(serving_generation=1, serving=first.spec, attempts=2, not_before=1.0, deadline=2.0)
        ready = tuple(replace(one, status=True, reason=Reason.SERVING) for one in first.conditions)
        self.acting(
            store,
            change(first, State.FAILED, error_summary="bad", observed_generation=1, progress=serving, conditions=ready),
        )
        second = store.declare("alice", spec(num_replicas=2), at(70)).model
        same = ("model_key", "model_id", "created_at", "user_id")
        assert [getattr(second, name) for name in same] == [getattr(first, name) for name in same]
        assert (second.generation, second.observed_generation, second.state) == (2, 1, State.QUEUED)
        assert (second.error_summary, second.accepted_at, second.etag != first.etag) == (None, at(70), True)
        # What is served goes on being served; what was tried counts for the old generation alone.
        assert second.progress == Progress(serving_generation=1, serving=first.spec)
        assert {one.type: (one.status, one.generation) for one in second.conditions} == {
            "Accepted": (True, 2),
            "Applied": (None, 2),
            "Healthy": (None, 2),
            "Ready": (True, 1),
        }
        assert [one.generation for one in store.revisions(first.model_key)] == [1, 2]
        last = store.events(first.model_key, 10)[-1]
        assert (last.event_type, last.payload) == ("UPDATE_REQUESTED", {"generation": 2, "changed": ["num_replicas"]})

    @pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0, False), ([1], [True]), ("1", 1)])
    def test_what_an_engine_knows_apart_is_a_change(self, store, one, other):
        store.declare("alice", spec(engine_kwargs={"x": one}), NOW)
        assert store.declare("alice", spec(engine_kwargs={"x": other}), NOW).model.generation == 2

    def test_users_do_not_meet(self, store):
        one, other = (store.declare(user, spec(), NOW).model for user in ("alice", "bob"))
        assert one.model_key != other.model_key
        assert store.page("alice", 10, None).items == (one,)
        assert store.named("bob", "m") == other

    def test_create_only_takes_no_suffix_that_is_there(self, store):
        model = store.declare("alice", spec(), NOW, create_only=True).model
        for wanted in (spec(), spec(num_replicas=3)):
            assert (
                refused(lambda wanted=wanted: store.declare("alice", wanted, NOW, create_only=True)) == "model_exists"
            )
        assert store.model(model.model_key) == model

    def test_while_deleting_nothing_is_taken_and_then_a_new_model_is_made(self, store):
        model = store.declare("alice", spec(), NOW).model
        marked = store.delete(model.model_key, at(5))
        assert (marked.state, marked.updated_at, marked.etag) == (State.DELETING, at(5), model.etag)
        ready = next(one for one in marked.conditions if one.type == "Ready")
        assert (ready.status, ready.reason) == (False, Reason.DELETING)
        for work in (
            lambda: store.declare("alice", spec(), NOW),
            lambda: store.declare("alice", spec(num_replicas=2), NOW, create_only=True),
            lambda: store.amend(model.model_key, spec(num_replicas=2), NOW, generation=1),
        ):
            assert refused(work) == "model_deleting"
        before = store.version()
        assert store.delete(model.model_key, at(6)) == marked
        assert store.version() == before
        self.acting(store, change(marked, State.DELETED))
        assert store.delete(model.model_key, at(7)).state == State.DELETED
        assert refused(lambda: store.amend(model.model_key, spec(), NOW, generation=1)) == "model_deleting"
        assert (store.live(), store.page("alice", 10, None).items, store.named("alice", "m")) == ((), (), None)
        assert [one.event_type for one in store.events(model.model_key, 10)] == ["DEPLOY_REQUESTED", "DELETE_REQUESTED"]
        # Within the minute it even gets the same dated name.
        again = store.declare("alice", spec(), at(8), create_only=True).model
        assert (again.model_id, again.generation) == (model.model_id, 1)
        assert again.model_key != model.model_key
        assert store.live() == (again,)

    def test_why_it_was_deleted_is_said(self, store):
        model = store.declare("alice", spec(), NOW).model
        marked = store.delete(model.model_key, NOW, reason=Reason.EXPIRED)
        assert next(one for one in marked.conditions if one.type == "Ready").reason == Reason.EXPIRED
        assert store.events(model.model_key, 10)[-1].payload == {"reason": "TimeToLiveOver"}

    def test_amend_and_delete_go_by_the_generation_that_was_seen(self, store):
        model = store.declare("alice", spec(), NOW).model
        done = store.amend(
            model.model_key, more_replicas(model, 2), at(1), generation=1, event_type="ROLLBACK_REQUESTED"
        )
        assert (done.changed, done.created, done.answer["state"], done.model.generation) == (True, False, "QUEUED", 2)
        assert store.events(model.model_key, 10)[-1].event_type == "ROLLBACK_REQUESTED"
        for generation in (1, 3, 0, -1, 10**30):
            assert (
                refused(lambda at=generation: store.amend(model.model_key, spec(num_replicas=9), NOW, generation=at))
                == "generation_moved"
            )
            assert (
                refused(lambda at=generation: store.delete(model.model_key, NOW, generation=at)) == "generation_moved"
            )
        assert store.model(model.model_key) == done.model
        same = store.amend(model.model_key, more_replicas(model, 2), at(2), generation=2)
        assert (same.changed, same.model) == (False, done.model)
        assert refused(lambda: store.amend(model.model_key, spec("other"), NOW, generation=2)) == "bad_value"
        assert store.delete(model.model_key, NOW, generation=2).state == State.DELETING

    def test_revisions_are_bounded_and_the_serving_one_stays(self, store):
        model = store.declare("alice", spec(), NOW).model
        self.acting(store, change(model, State.RUNNING, progress=Progress(serving_generation=1, serving=model.spec)))
        for many in range(2, 106):
            store.amend(model.model_key, more_replicas(model, many), NOW, generation=many - 1)
        assert [one.generation for one in store.revisions(model.model_key)] == [1, *range(6, 106)]


class IdempotencyContract(StoreTests):
    def test_the_first_answer_is_given_again_and_nothing_is_done(self, store):
        first = store.declare("alice", spec(), NOW, kept=kept())
        store.amend(first.model.model_key, spec(num_replicas=5), NOW, generation=1)
        model = store.model(first.model.model_key)
        before = store.version()
        again = store.declare("alice", spec(), at(9), kept=kept())
        assert (again.answer, again.created, again.changed) == (first.answer, False, False)
        assert (again.model, store.version()) == (model, before)
        assert store.kept_answer("alice", kept(), NOW) == first.answer

    def test_it_holds_also_when_the_model_is_gone(self, store):
        first = store.declare("alice", spec(), NOW, kept=kept())
        self.gone(store, first.model)
        assert store.declare("alice", spec(), at(9), kept=kept(), create_only=True).answer == first.answer
        assert store.live() == ()

    def test_another_body_is_refused(self, store):
        store.declare("alice", spec(), NOW, kept=kept())
        for work in (
            lambda: store.declare("alice", spec("n"), NOW, kept=kept(body="other")),
            lambda: store.kept_answer("alice", kept(body="other"), NOW),
        ):
            assert refused(work) == "idempotency_key_reused"
        assert store.named("alice", "n") is None

    def test_keys_of_two_users_are_unrelated(self, store):
        store.declare("alice", spec(), NOW, kept=kept())
        assert store.kept_answer("bob", kept(), NOW) is None
        assert store.declare("bob", spec(), NOW, kept=kept(body="other")).created

    def test_a_refusal_is_not_kept(self, store):
        model = store.declare("alice", spec(), NOW).model
        assert refused(lambda: store.declare("alice", spec(), NOW, create_only=True, kept=kept())) == "model_exists"
        assert store.kept_answer("alice", kept(), NOW) is None
        self.gone(store, model)
        assert store.declare("alice", spec(), NOW, create_only=True, kept=kept()).created

    def test_a_key_is_forgotten_after_a_day(self, store):
        answer = store.declare("alice", spec(), NOW, kept=kept()).answer
        assert store.kept_answer("alice", kept(), at(24 * 3600 - 1)) == answer
        assert store.kept_answer("alice", kept(), at(24 * 3600)) is None
        assert store.kept_answer("alice", kept(body="other"), at(24 * 3600)) is None
        assert not store.declare("alice", spec(num_replicas=2), at(24 * 3600 - 1), kept=kept()).changed
        assert store.declare("alice", spec(num_replicas=2), at(24 * 3600), kept=kept(body="other")).changed


def everything(store) -> str:
    """All that the database holds, as text."""
    with store._database.read() as db:
        return repr([db.execute(select(table)).all() for table in METADATA.sorted_tables])
