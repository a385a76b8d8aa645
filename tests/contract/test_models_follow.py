"""`moor models logs`: of a build that failed; followed over a restart of the API, to its end, and until Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from moorage.client.serving.client import ServingClient
from moorage.errors import TryAgainError
from tests.contract.models_process import GoingOn, ServingApi, applied, good, serving_api, spec, until


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingApi]:
    with serving_api(tmp_path_factory.mktemp("serving")) as running:
        yield running


class Follow(GoingOn):
    """A `moor models logs --follow` and what it has said."""

    def __init__(self, api: ServingApi, token: str, model: str) -> None:
        super().__init__(api, token, "logs", model, "--follow")

    def lines(self) -> list[str]:
        return [str(one["line"]) for one in list(self.said) if "line" in one]

    def ended(self) -> tuple[int, str]:
        """Exit status, and what stderr had."""
        status = self.process.wait(60)
        self._thread.join(60)
        assert self.process.stderr is not None
        return status, self.process.stderr.read()


def test_a_failed_model_shows_what_its_last_build_wrote(api: ServingApi) -> None:
    token = api.user("failing")
    api.models("apply", "-f", "-", "--wait", "100", token=token, stdin=spec("memfail-x"))
    lines = until(lambda: good(api.models("logs", "memfail-x", token=token))["lines"])
    assert "FAILED: a model of the memory backend" in lines[-1]
    assert good(api.models("logs", "memfail-x", "--tail", "1", token=token))["lines"] == lines[-1:]
    assert api.run("models", "logs", "memfail-x", token=token).stdout.splitlines() == lines


def test_ctrl_c_ends_it_quietly(api: ServingApi) -> None:
    token = api.user("pressing")
    applied(api, token, "m")
    follow = Follow(api, token, "m")
    until(lambda: any("RUNNING" in line for line in follow.lines()))
    follow.process.send_signal(signal.SIGINT)
    status, stderr = follow.ended()
    assert (status, "Traceback" in stderr) == (130, False)
    assert follow.said[-1]["error"]["code"] == "interrupted"
    assert len(follow.lines()) == len(set(follow.lines()))


def test_it_goes_on_over_a_restart_of_the_api_and_tells_nothing_twice(tmp_path: Path) -> None:
    with serving_api(tmp_path) as api:
        token = api.user("alice")
        applied(api, token, "m")
        follow = Follow(api, token, "m")
        until(lambda: any("RUNNING" in line for line in follow.lines()))
        api.kill()
        api.start()
        applied(api, token, "m", engine_kwargs={"seed": 1})
        until(lambda: len([line for line in follow.lines() if "RUNNING" in line]) == 2)
        assert len(follow.lines()) == len(set(follow.lines()))
        with ServingClient(api.url, token=token, patience_s=0.5) as client:
            lines = client.follow(client_key(client), poll_s=0.05)
            next(lines)
            good(api.models("delete", "m", "--wait", "60", token=token))
            list(lines)  # which ends
        status, stderr = follow.ended()
        assert (status, stderr) == (0, "")


def test_it_ends_when_nobody_answers_any_more(tmp_path: Path) -> None:
    with serving_api(tmp_path) as api:
        token = api.user("alice")
        applied(api, token, "m")
        with ServingClient(api.url, token=token, patience_s=0.5) as client:
            lines = client.follow(client_key(client), poll_s=0.05)
            next(lines)
            api.kill()
            with pytest.raises(TryAgainError):
                list(lines)


def client_key(client: ServingClient) -> str:
    [model] = list(client.models())
    return model.model_key
