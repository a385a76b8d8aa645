"""Two serving APIs over one PostgreSQL store: what one accepts the other knows, tells and forgets as well."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pytest

from tests.contract.gateway_process import wait_until
from tests.contract.serving_process import MODELS, Caller, ServingProcess, running_api
from tests.contract.test_serving_watch import Watch
from tests.real.parts.postgres import Postgres

pytestmark = pytest.mark.postgres


class Two(NamedTuple):
    one: ServingProcess
    other: ServingProcess


@pytest.fixture(scope="module")
def two(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    folder, db = tmp_path_factory.mktemp("serving"), postgres.url(postgres.new_schema())
    (folder / "config.yaml").write_text("serving: {quotas: {models: 3, gpus: 20}}\n")
    flags = ("--config", str(folder / "config.yaml"))
    with running_api(folder, *flags, db=db) as one:
        tokens = one.admin_token, one.gateway_token
        with running_api(folder, *flags, db=db, tokens=tokens) as other:
            yield Two(one, other)


def at(api: ServingProcess, caller: Caller) -> Caller:
    """The same user, elsewhere."""
    return Caller(api.url, caller.token)


def test_what_one_accepts_the_other_shows_and_tells(two: Two) -> None:
    user = two.one.user("alice")
    there = at(two.other, user)
    watch = Watch(there)
    wait_until(lambda: bool(watch.ids))
    key = user.declare("m")
    watch.until(key, "RUNNING")
    assert there.settled(key, "RUNNING")["model"]["model_key"] == key
    assert there.patch(f"{MODELS}/{key}", {"num_replicas": 2}).status_code == 200
    assert user.settled(key, "RUNNING")["model"]["num_replicas"] == 2
    there.delete(f"{MODELS}/{key}")
    user.settled(key, "DELETED")
    watch.until(key, "DELETED")


def test_first_posts_at_both_make_one_model(two: Two) -> None:
    user = two.one.user("bob")

    def declare(number: int) -> str:
        return at(two[number % 2], user).declare("m", num_replicas=1 + number % 3)

    with ThreadPoolExecutor(12) as pool:
        assert len(set(pool.map(declare, range(24)))) == 1


def test_patches_at_both_are_all_made(two: Two) -> None:
    user = two.one.user("grace")
    key = user.declare("m")

    def patch(number: int) -> int:
        return at(two[number % 2], user).patch(f"{MODELS}/{key}", {"ttl_s": 3600 + number}).status_code

    with ThreadPoolExecutor(24) as pool:
        assert set(pool.map(patch, range(48))) == {200}
    assert user.detail(key)["model"]["generation"] == 1 + 48


def test_a_quota_counts_at_both_as_one(two: Two) -> None:
    user = two.one.user("greta")
    callers = [[at(api, user) for _ in range(6)] for api in two]

    def declare(number: int) -> int:
        body = {"model_id": f"m{number}", "model_source": "$HOME/common/hf/m"}
        return callers[number % 2][number // 2 % 6].post(MODELS, body).status_code

    with ThreadPoolExecutor(12) as pool:
        assert sorted(pool.map(declare, range(36))) == [202] * 3 + [422] * 33
    made = [one["model_key"] for one in user.get(MODELS).json()["items"]]

    def grow(number: int) -> int:
        caller, key = callers[number % 2][number // 2 % 6], made[number % 3]
        return caller.patch(f"{MODELS}/{key}", {"num_replicas": 2 + number // 3}).status_code

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(grow, range(36))) <= {200, 422}
    assert len(made) == 3
    assert sum(one["total_gpus"] for one in user.get(MODELS).json()["items"]) <= 20


def test_a_key_is_good_for_both(two: Two) -> None:
    user = two.one.user("carol")
    body, headers = {"model_id": "m", "model_source": "$HOME/common/hf/m"}, {"Idempotency-Key": "k"}
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: at(two[n % 2], user).post(MODELS, body, headers=headers), range(16)))
    assert {(one.status_code, one.content) for one in replies} == {(202, replies[0].content)}


def test_a_token_that_one_revoked_is_good_for_neither(two: Two) -> None:
    user = two.one.user("dave")
    there = at(two.other, user)
    assert there.get(MODELS).status_code == 200
    [token] = two.other.admin.get("/api/v2/users/dave/tokens").json()["items"]
    assert two.one.admin.delete(f"/api/v2/users/dave/tokens/{token['token_id']}").status_code == 204
    assert (user.get(MODELS).status_code, there.get(MODELS).status_code) == (401, 401)


@pytest.mark.parametrize("path", [f"{MODELS}/a%00", f"{MODELS}?page_token=%00", "/api/v2/users/%00/tokens", "/%00"])
def test_what_the_database_cannot_hold_is_no_fault_of_it(two: Two, path: str) -> None:
    for caller in (two.one.admin, two.one.user("erin")):
        assert caller.get(path).status_code in (400, 403, 404)


def test_texts_that_a_database_may_stumble_over(two: Two) -> None:
    user = two.one.user("frank")
    for body in (
        b'{"model_id": "m", "model_source": "a/b\\u0000"}',
        b'{"model_id": "m\\u0000", "model_source": "a/b"}',
        b'{"model_id": "m", "model_source": "a/b", "engine_kwargs": {"dtype": "\\u0000"}}',
        b'{"model_id": "m", "model_source": "a/b", "engine_kwargs": {"\\u0000": 1}}',
        b'{"model_id": "m", "model_source": "a/b", "engine_kwargs": {"max_model_len": 1e400}}',
        b'{"model_id": "m", "model_source": "a/b", "engine_kwargs": {"seed": 99999999999999999999999}}',
        b'{"model_id": "m", "model_source": "a/b", "ttl_s": 1e308}',
    ):
        reply = user.post(MODELS, body, headers={"Content-Type": "application/json"})
        assert reply.status_code in (202, 400), reply.text
    users = {"user_id": "a\x00"}
    assert two.one.admin.post("/api/v2/users", users).status_code == 400
