"""`moor models watch` over a real serving API: live, over a restart, from a cursor, to its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.models_process import GoingOn, ServingApi, applied, good, serving_api, until


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingApi]:
    with serving_api(tmp_path_factory.mktemp("serving")) as running:
        yield running


@pytest.fixture(scope="module")
def alice(api: ServingApi) -> str:
    return api.user("alice")


class Watch(GoingOn):
    """A `moor models watch` and what it has said."""

    def __init__(self, api: ServingApi, token: str, *words: str) -> None:
        super().__init__(api, token, "watch", *words)

    def models(self) -> list[tuple[str, str, str]]:
        events = [one["event"] for one in list(self.said) if "event" in one]
        return [(one["type"], one["model"]["model_alias"], one["model"]["state"]) for one in events]

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        status = self.process.wait(60)
        self._thread.join(60)
        return status


def test_watch_tells_what_is_there_and_every_change(api: ServingApi) -> None:
    token = api.user("watcher")
    applied(api, token, "seen")
    watch = Watch(api, token)
    until(lambda: ("ADDED", "watcher/seen", "RUNNING") in watch.models())
    applied(api, token, "other")
    good(api.models("delete", "seen", "--wait", "60", token=token))
    until(lambda: ("DELETED", "watcher/seen", "DELETED") in watch.models())
    until(lambda: any(one[1:] == ("watcher/other", "RUNNING") for one in watch.models()))
    assert watch.end() == 130
    assert watch.said[-1]["error"]["code"] == "interrupted"


def test_a_watch_goes_on_when_the_server_comes_back(tmp_path: Path) -> None:
    with serving_api(tmp_path) as api:
        token = api.user("alice")
        applied(api, token, "one")
        watch = Watch(api, token)
        until(lambda: watch.models() == [("ADDED", "alice/one", "RUNNING")])
        api.kill()
        api.start()
        applied(api, token, "two")
        until(lambda: any(one[1:] == ("alice/two", "RUNNING") for one in watch.models()))
        assert next(one for one in watch.models() if one[1:] == ("alice/one", "RUNNING"))[0] == "ADDED"
        assert watch.end() == 130


def test_a_watch_of_one_model_ends_with_it(api: ServingApi, alice: str) -> None:
    applied(api, alice, "last")
    watch = Watch(api, alice, "last")
    until(watch.models)
    good(api.models("delete", "last", token=alice))
    assert watch.process.wait(60) == 0
    until(lambda: "ok" in watch.said[-1])
    data = watch.said[-1]["data"]
    assert data["events"] == len(watch.said) - 1
    assert data["cursor"].isdecimal()


def test_a_watch_goes_on_from_a_cursor(api: ServingApi) -> None:
    token = api.user("cursor")
    applied(api, token, "first")
    applied(api, token, "ends")
    watch = Watch(api, token, "ends")
    until(watch.models)
    good(api.models("delete", "ends", "--wait", "60", token=token))
    assert watch.process.wait(60) == 0
    until(lambda: "ok" in watch.said[-1])
    applied(api, token, "second")
    said = api.models("watch", "--from", watch.said[-1]["data"]["cursor"], "--limit", "1", token=token)
    assert [one["event"]["model"]["model_alias"] for one in said.lines] == ["cursor/second"]
    assert api.models("watch", "--from", "x", token=token).status == 2


def test_a_token_that_was_revoked(api: ServingApi) -> None:
    token = api.user("carol")
    [known] = good(api.run("serve", "token", "list", "carol", "--json", token=None))["tokens"]
    watch = Watch(api, token)
    good(api.run("serve", "token", "revoke", "carol", known["token_id"], "--json", token=None))
    assert api.models("list", token=token).status == 5
    assert watch.process.wait(60) == 5
