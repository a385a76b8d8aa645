"""`ServingClient`: every route over a real API, and answers that are lost on the way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from moorage.client import ServingClient
from moorage.errors import (
    ConflictError,
    FailedError,
    NotFoundError,
    NotReadyError,
    PreflightError,
    TryAgainError,
    UsageError,
)
from moorage.serving.api.problems import problem_of, reply_of
from tests.contract.models_process import ADMIN, ServingApi, serving_api

SPEC = {"model_id": "m", "model_source": "$HOME/common/hf/m"}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingApi]:
    with serving_api(tmp_path_factory.mktemp("serving")) as running:
        yield running


@pytest.fixture(scope="module")
def alice(api: ServingApi) -> Iterator[ServingClient]:
    with ServingClient(api.url, token=api.user("alice")) as client:
        yield client


def test_the_life_of_a_model(alice: ServingClient) -> None:
    plan = alice.plan(SPEC)
    assert (plan.model_key, plan.created, plan.state) == (None, True, "QUEUED")
    answer = alice.declare(SPEC, create_only=True)
    detail = alice.wait(answer.model_key, timeout_s=60)
    model = detail.model
    assert (model.state, model.settled, model.model_alias) == ("RUNNING", True, "alice/m")
    ready = model.condition("Ready")
    assert ready is not None
    assert ready.status == "True"
    assert model.endpoint.openai_base_url.endswith("/v1")
    assert detail.etag == alice.model(answer.model_key).etag
    assert [one.model_key for one in alice.models(state="RUNNING")] == [answer.model_key]
    assert next(iter(alice.events(answer.model_key))).event_type == "DEPLOY_REQUESTED"
    assert alice.plan_patch(answer.model_key, {"num_replicas": 2}).diff[0]["to"] == 2
    alice.scale(answer.model_key, 2, if_match=detail.etag)
    with pytest.raises(ConflictError) as stale:
        alice.patch(answer.model_key, {"num_replicas": 3}, if_match=detail.etag)
    assert stale.value.code == "stale"
    assert alice.wait(answer.model_key, timeout_s=60).model.num_replicas == 2
    assert [one.generation for one in alice.revisions(answer.model_key)] == [1, 2]
    assert alice.plan_rollback(answer.model_key, generation=1).changed
    alice.rollback(answer.model_key, generation=1)
    assert alice.wait(answer.model_key, timeout_s=60).model.num_replicas == 1
    assert alice.logs(answer.model_key, lines=3)
    first = next(alice.watch(answer.model_key))
    assert (first.type, first.data["model"]["model_key"]) == ("ADDED", answer.model_key)
    assert alice.delete(answer.model_key).state == "DELETING"


def test_faults_are_errors_of_their_kinds(api: ServingApi, alice: ServingClient) -> None:
    with pytest.raises(UsageError) as bad:
        alice.declare("model_id: 7\nspare: 1\n")
    assert bad.value.data is not None
    assert {one["pointer"] for one in bad.value.data["errors"]} >= {"/model_id", "/spare", "/model_source"}
    with pytest.raises(NotFoundError):
        alice.model("svc-alice-20260106-123500-none")
    with pytest.raises(PreflightError):
        alice.status()
    with pytest.raises(PreflightError), ServingClient(api.url, token="wrong-wrong-wrong") as stranger:
        list(stranger.models())
    for name in ("..", "a/b", "", "x" * 300):
        with pytest.raises(UsageError):
            alice.model(name)
    with pytest.raises(NotReadyError):
        alice.wait(alice.declare({**SPEC, "model_id": "late"}).model_key, timeout_s=0)


@pytest.mark.parametrize(
    "asks",
    [
        lambda client: client.declare({**SPEC, "ttl_s": float("inf")}),
        lambda client: client.declare({**SPEC, "ttl_s": float("nan")}),
        lambda client: client.declare({**SPEC, "model_id": b"m"}),
        lambda client: client.declare({**SPEC, "lora": {1}}),
        lambda client: client.declare({**SPEC, "model_id": "\ud800"}),
        lambda client: client.declare(SPEC, idempotency_key="ä"),
        lambda client: client.declare(SPEC, idempotency_key="a\nb"),
        lambda client: client.declare(SPEC, idempotency_key=" a"),
        lambda client: client.patch("svc-a", {"ttl_s": float("inf")}),
        lambda client: client.patch("svc-a", {}, if_match="ä"),
        lambda client: next(client.watch(after="1\n")),
    ],
)
def test_what_cannot_be_sent_is_told_before_it_is(asks: Callable[[ServingClient], object]) -> None:
    """Nobody listens: whatever is sent is tried again, until it is given up as another error."""
    with ServingClient("http://127.0.0.1:9", token="t" * 20, patience_s=0.1) as client, pytest.raises(UsageError):
        asks(client)


def test_administration(api: ServingApi) -> None:
    with api.admin() as admin:
        assert admin.create_user("zoe").user_id == "zoe"
        with pytest.raises(ConflictError):
            admin.create_user("zoe")
        made = admin.create_token("zoe")
        assert made.token not in repr(made)
        assert [one.token_id for one in admin.tokens("zoe")] == [made.token_id]
        assert "zoe" in [one.user_id for one in admin.users()]
        assert admin.status()["backend"]["name"] == "memory"
        admin.revoke_token("zoe", made.token_id)
        assert admin.tokens("zoe") == ()


class Between:
    """A proxy that hears a request, passes it on, and hangs up instead of answering, so many times; or says
    something of its own, and passes nothing on."""

    def __init__(self, port: int, times: int, says: bytes = b"") -> None:
        self._port, self.left, self._says = port, times, says
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, socket.create_connection(("127.0.0.1", self._port)) as server:
                request = whole_request(client)
                if self._says and self.left > 0:
                    self.left -= 1
                    client.sendall(self._says)
                    continue
                server.sendall(request.replace(b"keep-alive", b"close"))
                answer = b""
                while piece := server.recv(1 << 16):
                    answer += piece
                if self.left > 0:
                    self.left -= 1
                else:
                    client.sendall(answer)

    def close(self) -> None:
        self._server.close()


def whole_request(client: socket.socket) -> bytes:
    """Its head, and as much of a body as that says."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += client.recv(1 << 16)
    head, _, body = request.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].partition(b":")[2]) if lengths else 0
    while len(body) < length:
        body += client.recv(1 << 16)
    return head + b"\r\n\r\n" + body


def test_a_lost_answer_declares_once(api: ServingApi) -> None:
    token = api.user("lost")
    between = Between(api.port, times=2)
    try:
        with ServingClient(between.url, token=token) as client:
            answer = client.declare(SPEC, create_only=True)
        with ServingClient(api.url, token=token) as client:
            assert [one.model_key for one in client.models()] == [answer.model_key]
            assert client.model(answer.model_key).model.generation == 1
    finally:
        between.close()


def test_what_must_not_be_repeated_is_not(api: ServingApi) -> None:
    between = Between(api.port, times=1)
    try:
        with ServingClient(between.url, token=ADMIN) as admin, pytest.raises(TryAgainError):
            admin.create_user("once")
        with api.admin() as admin:
            assert "once" in [one.user_id for one in admin.users()]
    finally:
        between.close()


def store_restarts() -> bytes:
    """As the API says it, to be asked again at once."""
    reply = reply_of(problem_of(FailedError("it restarts", code="store_failed", data={"retry_after_s": 0})))
    head = [b"HTTP/1.1 500 Internal Server Error", b"connection: close"]
    head += [name + b": " + value for name, value in reply.raw_headers]
    return b"\r\n".join([*head, b"", bytes(reply.body)])


def test_a_store_that_restarts_is_waited_for(api: ServingApi) -> None:
    between = Between(api.port, times=2, says=store_restarts())
    token = api.user("patient")
    try:
        with ServingClient(between.url, token=token) as client:
            key = client.declare(SPEC).model_key
            for asks in (client.page, lambda: client.patch(key, {"num_replicas": 2}), lambda: client.model(key)):
                between.left = 2
                asks()
            assert client.model(key).model.generation == 2
        with ServingClient(between.url, token=token, patience_s=0.0) as client:
            between.left = 2
            assert client.wait(key, timeout_s=60).model.state == "RUNNING"
            between.left = 1
            with pytest.raises(TryAgainError) as told:
                client.page()
            assert told.value.code == "store_failed"
            assert client.delete(key).state == "DELETING"
        with ServingClient(between.url, token=token) as client:
            client.wait(key, timeout_s=60)
            between.left = 2
            assert [event.type for event in client.watch(key)] == ["DELETED", "BOOKMARK"]
    finally:
        between.close()


@pytest.mark.parametrize("asks", [lambda client: client.page(), lambda client: next(client.watch())])
@pytest.mark.parametrize("head", [b"", b"content-encoding: gzip\r\ncontent-type: text/event-stream\r\n"])
def test_something_else_that_answers(asks: Callable[[ServingClient], object], head: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1 << 16)
                client.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"content-length: 5\r\n\r\nhello")

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with ServingClient(url, token="t" * 20) as client, pytest.raises(FailedError) as told:
            asks(client)
        assert told.value.code == "bad_reply"


def test_the_command_line_finds_what_serve_up_started(tmp_path: Path, api: ServingApi) -> None:
    """Its record names the API and its process; its token goes to that address alone."""
    from moorage.launch.processes import identity_of
    from moorage.serving.up.place import Place
    from moorage.serving.up.record import Choices, Record, write_record

    environ = {"XDG_STATE_HOME": str(tmp_path), "HOME": str(tmp_path), "PATH": ""}
    place = Place(environ)
    place.make()
    assert api.process is not None
    identity = identity_of(api.process.pid)
    assert identity is not None
    write_record(place, Record(choices=Choices(root=str(api.root), port=api.port), parts={"api": identity}))
    place.keep_token("user", api.user("here"))
    place.keep_token("admin", ADMIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "environ", environ)
        patch.setattr(api, "env", lambda token: environ)
        assert api.models("list", token=None).data["models"] == []
        assert api.run("serve", "user", "list", "--json", token=None).status == 0
        elsewhere = api.models("list", "--api", api.url.replace("127.0.0.1", "localhost"), token=None)
        assert elsewhere.status == 5
