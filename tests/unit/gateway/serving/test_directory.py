"""Which declared model a name means."""

from __future__ import annotations

import pytest

from moorage.errors import MoorageError
from moorage.gateway.serving.directory import Directory
from moorage.gateway.serving.feed import read_feed
from tests.unit.gateway.serving.feeds import fed, feed_of

HERE, THERE = "http://127.0.0.1:9001/v1", "http://127.0.0.1:9002/v1"


def refusal(directory: Directory, name: str | None) -> MoorageError:
    fault = directory.why(name)
    assert fault is not None
    return fault


def names_at(directory: Directory, url: str) -> dict[str, str]:
    return next(dict(names) for endpoint, names in directory.followed() if endpoint.base_url == url)


def test_a_model_has_its_dated_name_and_its_alias() -> None:
    directory = Directory(feed_of(fed("q", HERE, THERE)))
    wanted = {"alice-202601061235-q": "alice-202601061235-q", "alice/q": "alice-202601061235-q"}
    assert names_at(directory, HERE) == names_at(directory, THERE) == wanted
    assert [row["id"] for row in directory.listing(5)] == ["alice-202601061235-q", "alice/q"]
    assert directory.listing(5)[1] == {
        "id": "alice/q",
        "object": "model",
        "created": 5,
        "owned_by": "alice",
        "root": "alice-202601061235-q",
        "parent": None,
    }
    assert directory.why("alice/q") is None


def test_a_served_name_of_its_own_stands_behind_both() -> None:
    model = fed("q")
    model |= {"ready": True, "endpoints": [{"base_url": HERE, "model": "engine-name"}]}
    directory = Directory(feed_of(model))
    assert set(names_at(directory, HERE).values()) == {"engine-name"}


def test_adapters_have_their_models_name_in_front() -> None:
    directory = Directory(feed_of(fed("q", HERE, adapters=("sql",)), fed("q", THERE, user="bob", adapters=("sql",))))
    assert names_at(directory, HERE)["alice/q:sql"] == "sql"
    assert names_at(directory, THERE)["bob-202601061235-q:sql"] == "sql"
    assert refusal(directory, "sql").code == "model_not_found"
    rows = {row["id"]: row["parent"] for row in directory.listing(0)}
    assert rows["alice/q:sql"] == rows["alice-202601061235-q:sql"] == "alice-202601061235-q"


def test_one_that_is_not_ready_says_why_and_when_to_come_again() -> None:
    directory = Directory(feed_of(fed("q"), fed("r", HERE)))
    for name in ("alice/q", "alice-202601061235-q", "alice/q:sql"):
        fault = refusal(directory, name)
        assert (fault.code, fault.http_status) == ("model_not_ready", 503)
        assert fault.data is not None
        assert fault.data["retry_after_s"] == 7
        assert fault.data["condition"] == {
            "type": "Ready",
            "status": "False",
            "reason": "ReplicasStarting",
            "message": "0 of 1 replicas answer",
        }
    assert [row["id"] for row in directory.listing(0)] == ["alice-202601061235-r", "alice/r"]


@pytest.mark.parametrize(("said", "told"), [(None, 5), (0, 1), (0.2, 1), (3.1, 4), (-2, 1)])
def test_retry_after_is_whole_seconds_from_one_on(said: float | None, told: int) -> None:
    data = refusal(Directory(feed_of(fed("q", retry_after_s=said))), "alice/q").data
    assert data is not None
    assert data["retry_after_s"] == told


def test_ready_without_an_endpoint_is_not_ready() -> None:
    directory = Directory(feed_of(fed("q", ready=True, reason="", message="")))
    fault = refusal(directory, "alice/q")
    assert fault.code == "model_not_ready"
    assert "NoEndpoint" in fault.message
    assert directory.ready == []


def test_an_endpoint_that_is_no_url_spoils_no_other() -> None:
    directory = Directory(feed_of(fed("q", "ftp://x", HERE), fed("r", "http://", THERE), fed("s", "nonsense")))
    assert [endpoint.base_url for endpoint, _ in directory.followed()] == [HERE, THERE]
    assert len(directory.wrong) == 3
    assert refusal(directory, "alice/s").code == "model_not_ready"


def test_a_key_is_named_by_the_feed_and_must_be_there() -> None:
    keyed = {"base_url": HERE, "model": "m", "key_env": "KEY"}
    feed = feed_of(fed("q", ready=True, endpoints=[keyed]), fed("r", THERE))
    with_key = Directory(feed, environ={"KEY": "k1"})
    assert [endpoint.api_key_env for endpoint, _ in with_key.followed()] == ["KEY", None]
    assert with_key.why("alice/q") is None
    without = Directory(feed)
    assert [endpoint.base_url for endpoint, _ in without.followed()] == [THERE]
    assert without.wrong == [f"alice-202601061235-q: KEY is not set, and {HERE} needs it"]
    fault = refusal(without, "alice/q")
    assert (fault.code, fault.http_status) == ("model_not_ready", 503)
    assert "KEY, the variable of its endpoint's key, is not set where the gateway runs" in fault.message
    assert HERE not in fault.message
    assert without.why("alice/r") is None
    assert Directory(feed, with_key, environ={"KEY": "k1"}).followed() == with_key.followed()


def test_one_place_of_two_models_has_the_names_of_both() -> None:
    directory = Directory(feed_of(fed("q", HERE), fed("r", "http://127.0.0.1:9001")))
    assert len(directory.followed()) == 1
    assert {"alice/q", "alice/r"} <= set(names_at(directory, HERE))


def test_without_a_name_the_only_model_is_meant() -> None:
    assert Directory(feed_of(fed("q", HERE))).why(None) is None
    assert Directory(feed_of(fed("q", HERE))).default == "alice-202601061235-q"
    assert refusal(Directory(feed_of(fed("q"))), None).code == "model_not_ready"
    for models in ((), (fed("q", HERE), fed("r", THERE))):
        fault = refusal(Directory(feed_of(*models)), None)
        assert (fault.code, fault.http_status) == ("model_missing", 400)


def test_before_anything_was_heard_nothing_is_known() -> None:
    fault = refusal(Directory(None), "alice/q")
    assert (fault.code, fault.http_status) == ("serving_unreachable", 503)
    assert Directory(None).followed() == Directory(None).listing(0) == []


def test_an_unknown_name_is_told_some_of_those_there_are() -> None:
    fault = refusal(Directory(feed_of(*(fed(f"q{n}", f"http://127.0.0.1:{n + 1}") for n in range(200)))), "x")
    assert (fault.code, fault.http_status) == ("model_not_found", 404)
    assert "and 380 more" in fault.hint
    assert fault.data is not None
    assert len(fault.data["models"]) == 20


def test_of_two_with_one_name_the_ready_one_is_meant() -> None:
    old = fed("q", state="DELETING")
    for models in ((old, fed("q", HERE)), (fed("q", HERE), old)):
        directory = Directory(feed_of(*models))
        assert directory.why("alice/q") is None
        assert len(directory.listing(0)) == 2


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"version":1,"models":[]}',
        b'{"version":"1","auth":"none","models":[]}',
        b'{"version":1,"auth":"perhaps","models":[]}',
        b'{"version":1,"auth":"none","models":[{"model_id":"x"}]}',
        b'{"version":1,"auth":"none","models":[],"limits":{"requests_per_minute":0}}',
        b'{"version":1,"auth":"none","models":' + b"[" * 5000,
    ],
)
def test_what_is_no_feed(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_feed(body)


def test_fields_of_a_later_version_are_passed_over() -> None:
    feed = read_feed(b'{"version":1,"auth":"none","models":[],"limits":{"x":1},"more":[1]}')
    assert feed.limits.requests_per_minute is None
