"""Keys in wrong hands: paths, headers, connections and streams by which somebody might get further than allowed."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from tests.contract.gateway_calls import chat, check_openai, check_problem, step
from tests.contract.gateway_keys import Keys, shown
from tests.contract.gateway_process import GatewayProcess, running_gateway, wait_until


class Field:
    """A gateway with keys and two trajectories: `path` with `key`, which an enemy has, and `other`."""

    def __init__(self, gateway: GatewayProcess, keys: Keys) -> None:
        self.gateway, self.keys = gateway, keys
        self.path, self.uid, self.key = self._trajectory()
        self.other, self.other_uid, self.other_key = self._trajectory()

    def _trajectory(self) -> tuple[str, str, str]:
        made = self.gateway.post("/init_trajectory", {}, **shown(self.keys.trainer)).json()
        self.keys.given.append(made["api_key"])
        path = f"/{made['trajectory_uid']}/{made['prompt_uid']}"
        self.gateway.post(f"{path}/v1/chat/completions", chat(), **shown(self.keys.trainer)).raise_for_status()
        return path, made["trajectory_uid"], made["api_key"]

    def raw(self, *requests: bytes) -> list[int]:
        """The statuses of the answers to these requests, sent at once on one connection."""
        with socket.create_connection(("127.0.0.1", self.gateway.port), timeout=30) as connection:
            connection.sendall(b"".join(requests))
            got, statuses = connection.makefile("rb"), []
            for one in requests:
                line = got.readline()
                if not line:
                    break
                statuses.append(int(line.split()[1]))
                length = 0
                while (header := got.readline()) not in (b"\r\n", b""):
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                if not one.startswith(b"HEAD "):
                    got.read(length)
            return statuses


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    folder = tmp_path_factory.mktemp("enemies")
    keys = Keys(folder)
    with running_gateway(folder, "--auth", "keys", "--access-log") as gateway:
        yield Field(gateway, keys)
        said = "".join(gateway.said)
    assert not [key for key in keys.given if key.rpartition("_")[2] in said]


def request(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


# Where a session's key leads ---------------------------------------------------------------------------------------

FORBIDDEN = [
    ("GET", "/pool/steps"),
    ("GET", "/pool/steps?trajectory_uid=UID"),
    ("HEAD", "/pool/steps"),
    ("GET", "/pool/trajectories"),
    ("GET", "/pool/events?cursor=0"),
    ("POST", "/pool/lease"),
    ("POST", "/pool/ack"),
    ("GET", "/UID/nodes"),
    ("DELETE", "/UID"),
    ("POST", "/UID/v1/chat/completions/render"),
    ("GET", "/sessions"),
    ("POST", "/sessions/create"),
    ("POST", "/init_trajectory"),
    ("POST", "/submit_steps"),
    ("POST", "/generate"),
    ("POST", "/compute_reward"),
    ("POST", "/setup"),
    ("GET", "/metrics"),
    ("GET", "/servers"),
    ("POST", "/v1/chat/completions"),
    ("GET", "/v1/models"),
    ("POST", "/OTHER/p/v1/chat/completions"),
    ("POST", "/OTHER/p/v1/register_trajectory"),
    ("POST", "/OTHER/p/v1/complete_trajectory"),
    ("POST", "/complete_trajectory/OTHER"),
]


@pytest.mark.parametrize(("method", "path"), FORBIDDEN)
def test_a_sessions_key_is_forbidden_elsewhere(field: Field, method: str, path: str) -> None:
    target = path.replace("UID", field.uid).replace("OTHER", field.other_uid)
    body = json.dumps(chat()).encode()
    assert field.raw(request(method, target, f"authorization: Bearer {field.key}", body=body)) == [403]


TRICKS = [
    "//pool/steps",
    "/pool//steps",
    "/pool/steps/",
    "/POOL/steps",
    "/pool/%73teps",
    "/%70ool/steps",
    "/pool%2fsteps",
    "/pool/%2e/steps",
    "/./pool/steps",
    "/x/../pool/steps",
    "/%2e%2e/pool/steps",
    "/pool/steps;x=1",
    "/pool/steps%00",
    "/pool/steps%20",
    "/pool/steps#x",
    "http://127.0.0.1/pool/steps",
    "http://localhost//pool/steps",
    "/UID/nodes",
    "/UID/%6eodes",
    "/UID//nodes",
    "/UID/p/../../pool/steps",
    "/UID/p/v1/..%2f..%2f..%2fpool/steps",
    "/UID%2f..%2f..%2fpool/steps",
    "/UID/p/v1/models/../../../pool/steps",
    "/OTHER/p/v1/models",
    "/OTHER%2fp/v1/models",
    "/OTHER/p//v1/models",
    "/UID/../OTHER/p/v1/models",
    "/UID%2f..%2fOTHER/p/v1/models",
    "/UID%00/p/v1/models",
    "/UID%0a/p/v1/models",
    "/UPPER/p/v1/models",
    "/ UID/p/v1/models",
    "/%20UID/p/v1/models",
    "/v1/models",
    "/metrics?key=x",
    "/docs/../metrics",
    "/health/../metrics",
    "/openapi.json/../pool/steps",
]


@pytest.mark.parametrize("path", TRICKS)
@pytest.mark.parametrize("whose", ["a session's", "nobody's"])
def test_no_spelling_of_a_path_leads_further(field: Field, path: str, whose: str) -> None:
    target = path.replace("UID", field.uid).replace("OTHER", field.other_uid).replace("UPPER", field.uid.upper())
    header = f"authorization: Bearer {field.key}" if whose == "a session's" else "accept: */*"
    for method in ("GET", "HEAD"):
        [status] = field.raw(request(method, target, header))
        assert status in (400, 401, 403, 404, 405, 422), (method, target)


def test_methods_that_nobody_uses_lead_nowhere(field: Field) -> None:
    for method in ("OPTIONS", "PUT", "PATCH", "TRACE", "DELETE"):
        [status] = field.raw(request(method, "/pool/steps", f"authorization: Bearer {field.key}"))
        assert status in (403, 404, 405)
    overridden = request(
        "POST", f"{field.path}/v1/models", f"authorization: Bearer {field.key}", "x-http-method-override: GET"
    )
    assert field.raw(overridden) == [405]


# Headers and connections -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        ["authorization: Bearer TRAINER", "authorization: Bearer SESSION"],
        ["authorization: Bearer SESSION", "authorization: Bearer TRAINER"],
        ["authorization: Bearer SESSION", "x-api-key: TRAINER"],
        ["x-api-key: SESSION", "x-api-key: TRAINER"],
        ["authorization: Bearer SESSION, Bearer TRAINER"],
        ["authorization: Bearer SESSION TRAINER"],
        ["authorization: Token TRAINER"],
        ["authorization: TRAINER"],
        ["authorization: Basic TRAINER"],
        ["proxy-authorization: Bearer TRAINER"],
        ["x_api_key: TRAINER"],
        ["cookie: authorization=Bearer TRAINER; x-api-key=TRAINER"],
        ["x-forwarded-for: 127.0.0.1", "x-real-ip: 127.0.0.1", "forwarded: for=127.0.0.1;host=localhost"],
        ["authorization: Bearer TRAINER\x00"],
        ["authorization: Bearer TRAI", " NER"],
        ["authorization: Bearer UPPER"],
        ["x-api-key: 'TRAINER'"],
    ],
)
def test_no_arrangement_of_headers_opens_the_pool(field: Field, headers: list[str]) -> None:
    trainer = field.keys.trainer
    said = [
        line.replace("UPPER", trainer.upper()).replace("TRAINER", trainer).replace("SESSION", field.key)
        for line in headers
    ]
    [status] = field.raw(request("GET", "/pool/stats", *said))
    assert status in (400, 401, 403)


def test_a_key_in_the_url_is_none_and_is_not_logged(field: Field) -> None:
    trainer = field.keys.trainer
    for target in (f"/pool/stats?api_key={trainer}", f"/pool/stats?key={trainer}", f"/{trainer}/nodes"):
        assert field.raw(request("GET", target)) == [401]
    wanted = f'"/{"_".join(trainer.split("_")[:3])}_.../nodes"'
    wait_until(lambda: any(wanted in line for line in field.gateway.said))


def test_each_request_of_a_connection_is_looked_at_by_itself(field: Field) -> None:
    good = request("GET", "/pool/stats", f"authorization: Bearer {field.keys.trainer}")
    none = request("GET", "/pool/stats")
    own = request("GET", "/pool/stats", f"authorization: Bearer {field.key}")
    assert field.raw(good, none, good, own, none, good) == [200, 401, 200, 403, 401, 200]
    smuggled = request("POST", "/pool/ack", body=good)
    assert field.raw(smuggled, none) == [401, 401]


def test_a_body_that_holds_another_request_stays_a_body(field: Field) -> None:
    inner = request("GET", "/pool/stats", f"authorization: Bearer {field.keys.trainer}")
    both = (
        b"POST /pool/ack HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
        + inner
    )
    assert field.raw(both)[:1] in ([400], [401])
    assert 200 not in field.raw(both, b"")


# Bodies ------------------------------------------------------------------------------------------------------------


def test_no_body_sets_a_reward_or_reaches_another(field: Field) -> None:
    gateway, own = field.gateway, shown(field.key)
    for path in (
        f"{field.path}/v1/complete_trajectory",
        f"{field.path}/complete_trajectory",
        f"/complete_trajectory/{field.uid}",
    ):
        for body in (
            b'{"reward": 1}',
            b'{"reward":0.0}',
            b'{"r\\u0065ward": 1}',
            b'{"reward":null,"reward":1}',
            b' {"reward" :1e0}',
        ):
            check_problem(gateway.post(path, body, **own), 403, "forbidden")
        assert gateway.post(f"{path}?reward=1", {"rewards": 1, "Reward": 1}, **own).status_code == 200
    check_problem(gateway.post("/submit_steps", {"steps": [step(field.uid, 9, reward=1.0)]}, **own), 403, "forbidden")
    rewards = gateway.get(f"/pool/steps?trajectory_uid={field.uid}", **shown(field.keys.trainer)).json()["steps"]
    assert {one["reward"] for one in rewards} == {None}


def test_a_session_cannot_be_made_with_a_key_of_ones_own(field: Field) -> None:
    """What the store has of a session's key is never taken from a request."""
    digest = "0" * 64
    body = {
        "key_digest": digest,
        "options": {"key_digest": digest},
        "metadata": {"key_digest": digest},
        "api_key": field.key,
    }
    made = field.gateway.post("/init_trajectory", body, **shown(field.keys.trainer)).json()
    field.keys.given.append(made["api_key"])
    assert made["api_key"] not in (field.key, field.keys.trainer)
    path = f"/{made['trajectory_uid']}/{made['prompt_uid']}/v1/models"
    assert field.gateway.get(path, **shown(made["api_key"])).status_code == 200
    check_openai(field.gateway.get(path, **shown(field.key)), 403, "forbidden")


def test_registering_metadata_changes_no_key(field: Field) -> None:
    gateway = field.gateway
    body = {"metadata": {"key_digest": "0" * 64}, "options": {"key_digest": "0" * 64}}
    assert gateway.post(f"{field.other}/v1/register_trajectory", body, **shown(field.other_key)).status_code == 200
    assert gateway.get(f"{field.other}/v1/models", **shown(field.other_key)).status_code == 200


# While it goes on --------------------------------------------------------------------------------------------------


def test_a_stream_of_events_ends_with_its_key(field: Field) -> None:
    key, key_id = field.keys.make("trainer")
    with field.gateway.http.get(f"{field.gateway.url}/pool/events", stream=True, timeout=60, **shown(key)) as stream:
        lines = stream.iter_lines(chunk_size=1)
        assert next(lines).startswith(b": moorage")
        field.keys.keeper.revoke(key_id)
        wait_until(lambda: field.gateway.get("/pool/stats", **shown(key)).status_code == 401)
        submit = {"steps": [step("after-the-revocation")]}
        assert field.gateway.post("/submit_steps", submit, **shown(field.keys.trainer)).status_code == 200
        assert not [line for line in lines if line.startswith(b"data")]


def test_a_lease_that_waits_ends_with_its_key(field: Field) -> None:
    key, key_id = field.keys.make("trainer")
    connection = socket.create_connection(("127.0.0.1", field.gateway.port), timeout=60)
    body = b'{"channel": "waiting", "wait_s": 60}'
    connection.sendall(request("POST", "/pool/lease", f"authorization: Bearer {key}", "connection: close", body=body))
    field.keys.keeper.revoke(key_id)
    wait_until(lambda: field.gateway.get("/pool/stats", **shown(key)).status_code == 401)
    steps = {"steps": [step("waiting-1", is_last=True)]}
    submitted = field.gateway.post("/submit_steps?channel=waiting", steps, **shown(field.keys.trainer))
    assert submitted.status_code == 200
    told = b""
    while piece := connection.recv(65536):
        told += piece
    assert b'"leases":[]' in told or b"401" in told.split(b"\r\n")[0]


def test_the_store_has_digests_alone(field: Field) -> None:
    folder = field.gateway.db.parent
    stored = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    for key in field.keys.given:
        assert key.encode() not in stored
        assert key.rpartition("_")[2][:48].encode() not in stored


def test_metrics_name_no_key_and_no_session(field: Field) -> None:
    told = field.gateway.get("/metrics", **shown(field.keys.admin)).text
    assert "moor_" not in told
    assert field.uid not in told
    assert 'status="401"' in told
