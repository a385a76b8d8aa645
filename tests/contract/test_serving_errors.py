"""Every error of the serving API: its status, its code, its shape, and that nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, NamedTuple

import pytest
import requests

from tests.contract.serving_process import MODELS, Caller, ServingProcess, running_api

LIMITS = "serving: {limits: {replicas: 8, gpus_per_replica: 4}}\n"
GOOD = {"model_id": "good", "model_source": "$HOME/common/hf/m"}
UNKNOWN = "svc-alice-20260101-000000-abcd"
JSON = {"Content-Type": "application/json"}


class Stand(NamedTuple):
    api: ServingProcess
    alice: Caller
    bob: Caller
    key: str
    """A model of Alice's that runs."""
    gone: str
    """One that is DELETED."""


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("serving")
    (folder / "config.yaml").write_text(LIMITS)
    with running_api(folder, "--config", str(folder / "config.yaml")) as api:
        alice, bob = api.user("alice"), api.user("bob")
        key, gone = alice.declare("runs"), alice.declare("goes")
        alice.settled(key, "RUNNING")
        alice.delete(f"{MODELS}/{gone}")
        alice.settled(gone, "DELETED")
        yield Stand(api, alice, bob, key, gone)


@dataclass(frozen=True)
class Wrong:
    """A request and what it gets. `{key}`, `{gone}` in the path stand for models of Alice's."""

    name: str
    status: int
    code: str
    method: str
    path: str
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    who: str = "alice"
    pointers: tuple[str, ...] = ()


def spec(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}


def posted(name: str, status: int, code: str, body: Any, *pointers: str, **more: Any) -> Wrong:
    return Wrong(f"POST {name}", status, code, "POST", MODELS, body, pointers=pointers, **more)


def patched(name: str, status: int, code: str, body: Any, *pointers: str, **more: Any) -> Wrong:
    return Wrong(f"PATCH {name}", status, code, "PATCH", MODELS + "/{key}", body, pointers=pointers, **more)


BODIES = [
    posted("no YAML", 400, "invalid_yaml", b"model_id: [", headers={}),
    posted("nothing", 400, "empty_document", b" "),
    posted("no JSON", 400, "invalid_json", b"{", headers=JSON),
    posted("a list", 400, "not_a_mapping", b"- model_id: m"),
    posted("a key twice", 400, "duplicate_key", b"model_id: a\nmodel_id: b\n"),
    posted("an alias", 400, "yaml_anchor", b"model_id: &a m\nmodel_source: *a\n"),
    posted("a tag", 400, "yaml_tag", b"model_id: !!python/object/apply:os.system [id]\n"),
    posted("two documents", 400, "yaml_documents", b"model_id: a\n---\nmodel_id: b\n"),
    posted("no UTF-8", 400, "not_utf8", b"model_id: \xff\n"),
    posted("a deep one", 400, "too_deep", b"a: " + b"[" * 40 + b"]" * 40),
    posted("plain text", 415, "unsupported_media_type", b"model_id: m", headers={"Content-Type": "text/plain"}),
    posted("Latin", 415, "unsupported_media_type", b"a: b", headers={"Content-Type": "text/yaml; charset=latin-1"}),
    posted("256 KiB and more", 413, "body_too_large", b"#" * (256 * 1024 + 1)),
    posted("10 MB", 413, "body_too_large", b"a: b\n" * 2_000_000),
]
SPECS = [
    posted("without a suffix", 400, "missing_field", spec(model_id=...), "/model_id"),
    posted("without a source", 400, "missing_field", spec(model_source=...), "/model_source"),
    posted("a numeric suffix", 400, "wrong_type", spec(model_id=7), "/model_id"),
    posted("a Greek suffix", 400, "invalid_model_id", spec(model_id="μ"), "/model_id"),
    posted("an unknown field", 400, "unknown_field", spec(accelerator_type="H20"), "/accelerator_type"),
    posted("text for a number", 400, "wrong_type", spec(num_replicas="2"), "/num_replicas"),
    posted("true for a number", 400, "wrong_type", spec(num_replicas=True), "/num_replicas"),
    posted("no replicas", 422, "out_of_range", spec(num_replicas=0), "/num_replicas"),
    posted("too many replicas", 422, "out_of_range", spec(num_replicas=9), "/num_replicas"),
    posted("too many GPUs", 422, "out_of_range", spec(gpus_per_replica=5), "/gpus_per_replica"),
    posted("unheard of", 400, "engine_kwarg_unknown", spec(engine_kwargs={"bogus": 1}), "/engine_kwargs/bogus"),
    posted("a denied argument", 400, "engine_kwarg_denied", spec(engine_kwargs={"host": "x"}), "/engine_kwargs/host"),
    posted("a URL", 400, "invalid_model_source", spec(model_source="https://a/b"), "/model_source"),
    posted("a way out", 400, "invalid_model_source", spec(model_source="$HOME/../bob/m"), "/model_source"),
    posted("Bob's folder", 403, "model_source_forbidden", spec(model_source="{root}/users/bob/m"), "/model_source"),
    posted("data sets", 403, "model_source_forbidden", spec(model_source="$HOME/common/datasets/d"), "/model_source"),
    posted("what is not there", 400, "model_source_not_found", spec(model_source="$HOME/none"), "/model_source"),
    posted(
        "everything at once",
        400,
        "invalid_spec",
        {"model_source": "/etc", "num_replicas": 0, "bogus": 1},
        "/model_id",
        "/model_source",
        "/num_replicas",
        "/bogus",
    ),
    posted("forbidden and too many", 403, "invalid_spec", spec(model_source="/etc", num_replicas=0), "/model_source"),
]
PATCHES = [
    patched("nothing", 400, "empty_patch", {}),
    patched("a list", 400, "not_a_mapping", [1]),
    patched("another suffix", 400, "not_patchable", {"model_id": "x"}, "/model_id"),
    patched("another source", 400, "not_patchable", {"model_source": "/x"}, "/model_source"),
    patched("null", 400, "wrong_type", {"num_replicas": None}, "/num_replicas"),
    patched("no replicas", 422, "out_of_range", {"num_replicas": -1}, "/num_replicas"),
    patched("unheard of", 400, "engine_kwarg_unknown", {"engine_kwargs": {"bogus": 1}}, "/engine_kwargs/bogus"),
    patched("plain text", 415, "unsupported_media_type", b"a", headers={"Content-Type": "text/plain"}),
    patched("too much", 413, "body_too_large", b"#" * (256 * 1024 + 1)),
    patched("a stale one", 412, "stale", {"num_replicas": 2}, headers={"If-Match": '"old"'}),
    patched("without quotes", 412, "stale", {"num_replicas": 2}, headers={"If-Match": "old"}),
    Wrong("PATCH a deleted one", 409, "model_deleting", "PATCH", MODELS + "/{gone}", {"num_replicas": 2}),
    Wrong("DELETE a stale one", 412, "stale", "DELETE", MODELS + "/{key}", headers={"If-Match": '"old"'}),
]
CONFLICTS = [
    posted("one that is there", 409, "model_exists", spec(model_id="runs"), headers={"If-None-Match": "*"}),
    posted("with another precondition", 400, "bad_header", spec(), headers={"If-None-Match": '"a"'}),
    posted("with If-Match", 400, "bad_header", spec(), headers={"If-Match": "*"}),
    posted("with an empty key", 400, "bad_header", spec(), headers={"Idempotency-Key": ""}),
    posted("with a long key", 400, "bad_header", spec(), headers={"Idempotency-Key": "a" * 256}),
    Wrong("rollback to nothing", 409, "nothing_to_roll_back_to", "POST", MODELS + "/{key}/rollback"),
    Wrong("rollback to none", 404, "not_found", "POST", MODELS + "/{key}/rollback", {"generation": 99}),
    Wrong("rollback to text", 400, "wrong_type", "POST", MODELS + "/{key}/rollback", {"generation": "1"}),
    Wrong(
        "rollback of everything",
        400,
        "invalid_spec",
        "POST",
        MODELS + "/{key}/rollback",
        {"to": 1, "a/b": 2, "generation": 0},
        pointers=("/to", "/a~1b", "/generation"),
    ),
    Wrong("rollback of fields", 400, "unknown_field", "POST", MODELS + "/{key}/rollback", {"to": 1}),
    Wrong("rollback of a deleted one", 409, "model_deleting", "POST", MODELS + "/{gone}/rollback", {"generation": 1}),
    Wrong("a user again", 409, "user_exists", "POST", "/api/v2/users", {"user_id": "alice"}, who="admin"),
]
QUERIES = [
    Wrong(f"GET {query}", 400, code, "GET", MODELS + place + "?" + query)
    for place, query, code in (
        ("", "limit=0", "bad_query"),
        ("", "limit=1001", "bad_query"),
        ("", "limit=ten", "bad_query"),
        ("", "limit=", "bad_query"),
        ("", "limit=1&limit=2", "bad_query"),
        ("", "limit=%D9%A3", "bad_query"),
        ("", "page_token=none", "bad_page_token"),
        ("", "page_token=%00", "bad_page_token"),
        ("", "page_token=", "bad_page_token"),
        ("", "state=GONE", "bad_query"),
        ("", "watch=maybe", "bad_query"),
        ("", "watch=1&after=-1", "bad_query"),
        ("", "watch=1&state=FAILED", "bad_query"),
        ("", "watch=1&limit=1", "bad_query"),
        ("", "watch=1&page_token=MQ", "bad_query"),
        ("/{key}/events", "page_token=x", "bad_page_token"),
        ("/{key}/logs", "lines=0", "bad_query"),
        ("/{key}/logs", "generation=0", "bad_query"),
    )
] + [
    Wrong("POST dryRun", 400, "bad_query", "POST", MODELS + "?dryRun=perhaps", GOOD),
    Wrong("PATCH dryRun", 400, "bad_query", "PATCH", MODELS + "/{key}?dryRun=perhaps", {"num_replicas": 2}),
    Wrong("endpoints", 400, "bad_query", "GET", "/api/v2/serve/endpoints?wait_s=31", who="admin"),
    Wrong("Last-Event-ID", 400, "bad_header", "GET", MODELS + "?watch=1", headers={"Last-Event-ID": "x"}),
    Wrong("logs of none", 404, "not_found", "GET", MODELS + "/{key}/logs?generation=99"),
]
PEOPLE = [
    Wrong(f"a user {user_id!r}", 400, code, "POST", "/api/v2/users", {"user_id": user_id}, who="admin", pointers=at)
    for user_id, code in (
        ("", "invalid_user_id"),
        ("Alice", "invalid_user_id"),
        ("7a", "invalid_user_id"),
        ("a" * 33, "invalid_user_id"),
        ("a-202601061235", "invalid_user_id"),
        ("a/b", "invalid_user_id"),
        ("a\x00", "invalid_user_id"),
        (7, "wrong_type"),
        (None, "wrong_type"),
    )
    for at in (("/user_id",),)
] + [
    Wrong("a user of nothing", 400, "missing_field", "POST", "/api/v2/users", {}, who="admin", pointers=("/user_id",)),
    Wrong("a user without body", 400, "empty_document", "POST", "/api/v2/users", who="admin"),
    Wrong("a field", 400, "unknown_field", "POST", "/api/v2/users", {"user_id": "z", "a": 1}, who="admin"),
    Wrong("a token of nobody", 404, "not_found", "POST", "/api/v2/users/nobody/tokens", who="admin"),
    Wrong("tokens of nobody", 404, "not_found", "GET", "/api/v2/users/nobody/tokens", who="admin"),
    Wrong("tokens of NUL", 404, "not_found", "GET", "/api/v2/users/a%00b/tokens", who="admin"),
    Wrong("a token with fields", 400, "unknown_field", "POST", "/api/v2/users/bob/tokens", {"a": 1}, who="admin"),
    Wrong("no such token", 404, "not_found", "DELETE", "/api/v2/users/bob/tokens/none", who="admin"),
    Wrong("a token of NUL", 404, "not_found", "DELETE", "/api/v2/users/bob/tokens/%00", who="admin"),
]
ALL_ROUTES = [
    ("POST", MODELS),
    ("GET", MODELS),
    ("GET", MODELS + "/{key}"),
    ("PATCH", MODELS + "/{key}"),
    ("DELETE", MODELS + "/{key}"),
    ("GET", MODELS + "/{key}/events"),
    ("GET", MODELS + "/{key}/revisions"),
    ("POST", MODELS + "/{key}/rollback"),
    ("GET", MODELS + "/{key}/logs"),
    ("GET", MODELS + "?watch=1"),
    ("GET", "/api/v2/serve/status"),
    ("GET", "/api/v2/serve/endpoints"),
    ("GET", "/api/v2/users"),
    ("POST", "/api/v2/users"),
    ("GET", "/api/v2/users/alice/tokens"),
    ("POST", "/api/v2/users/alice/tokens"),
    ("DELETE", "/api/v2/users/alice/tokens/x"),
]
ADMINS = [route for route in ALL_ROUTES if "/users" in route[1] or "/status" in route[1] or "/endpoints" in route[1]]
OF_ONE = [route for route in ALL_ROUTES if "{key}" in route[1]]
DOORS = [
    *(Wrong(f"{method} {path}", 401, "not_authenticated", method, path, who="nobody") for method, path in ALL_ROUTES),
    Wrong("GET what there is not", 401, "not_authenticated", "GET", "/api/v2/nothing", who="nobody"),
    Wrong("PUT models", 401, "not_authenticated", "PUT", MODELS, who="nobody"),
    *(Wrong(f"{method} {path}", 403, "forbidden", method, path) for method, path in ADMINS),
    *(Wrong(f"{m} {p}", 403, "forbidden", m, p, who="gateway") for m, p in ALL_ROUTES if "/endpoints" not in p),
    Wrong("POST by an administrator", 403, "forbidden", "POST", MODELS, GOOD, who="admin"),
    Wrong("watch by an administrator", 403, "forbidden", "GET", MODELS + "?watch=1", who="admin"),
    *(Wrong(f"{method} {path} of Alice's", 404, "not_found", method, path, who="bob") for method, path in OF_ONE),
    *(Wrong(f"{method} {path} as admin", 404, "not_found", method, path, who="admin") for method, path in OF_ONE),
    *(Wrong(f"{m} {p} unknown", 404, "not_found", m, p.replace("{key}", UNKNOWN)) for m, p in OF_ONE),
    *(Wrong(f"{m} {p} of NUL", 404, "not_found", m, p.replace("{key}", "a%00")) for m, p in OF_ONE),
    Wrong("a bad body of Alice's model", 404, "not_found", "PATCH", MODELS + "/{key}", b"[", who="bob"),
    Wrong("a huge one", 404, "not_found", "PATCH", MODELS + "/{key}", b"#" * 300_000, who="bob"),
    Wrong("a huge one without token", 401, "not_authenticated", "POST", MODELS, b"#" * 10_000_000, who="nobody"),
    Wrong("a token in the query", 401, "not_authenticated", "GET", MODELS + "?token={token}", who="nobody"),
]
PLACES = [
    Wrong(f"{method} {path}", status, code, method, path)
    for method, path, status, code in (
        ("GET", "/", 404, "no_such_path"),
        ("GET", "/nothing", 404, "no_such_path"),
        ("GET", "/api/v2/nothing", 404, "no_such_path"),
        ("GET", MODELS + "/", 404, "no_such_path"),
        ("GET", MODELS + "/{key}/", 404, "no_such_path"),
        ("GET", "/docs/../../etc/passwd", 404, "no_such_path"),
        ("GET", "/docs/%2e%2e%2fmodels.py", 404, "no_such_path"),
        ("GET", "/%00", 404, "no_such_path"),
        ("GET", "/%ff%fe", 404, "no_such_path"),
        ("PUT", MODELS, 405, "method_not_allowed"),
        ("DELETE", MODELS, 405, "method_not_allowed"),
        ("OPTIONS", MODELS, 405, "method_not_allowed"),
        ("TRACE", MODELS, 405, "method_not_allowed"),
        ("QUERY", MODELS, 405, "method_not_allowed"),
        ("POST", MODELS + "/{key}", 405, "method_not_allowed"),
        ("GET", MODELS + "/{key}/rollback", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    )
]
DRY = [
    replace(one, name=f"dry {one.name}", path=f"{MODELS}?dryRun=true")
    for one in (*BODIES, *SPECS, *CONFLICTS)
    if one.path == MODELS
]
EVERY = [*BODIES, *SPECS, *PATCHES, *CONFLICTS, *DRY, *QUERIES, *PEOPLE, *DOORS, *PLACES]
PHRASES = {413: "Content Too Large", 422: "Unprocessable Content"}
"""Which Python 3.11 has by the names that they had before RFC 9110."""


@pytest.mark.parametrize("wrong", EVERY, ids=[f"{one.status} {one.name} {one.who}" for one in EVERY])
def test_what_is_wrong_is_told(stand: Stand, wrong: Wrong) -> None:
    before = stand.alice.detail(stand.key)["model"]["generation"]
    reply = _ask(stand, wrong)
    assert reply.status_code == wrong.status, reply.text
    problem = check_problem(reply)
    assert problem["code"] == wrong.code, problem
    told = [one["pointer"] for one in problem.get("errors", [])]
    assert set(wrong.pointers) <= set(told), problem
    if wrong.status == 405:
        assert reply.headers["Allow"]
    if wrong.status == 401:
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert stand.alice.detail(stand.key)["model"]["generation"] == before


def check_problem(reply: requests.Response) -> dict[str, Any]:
    """That it is a problem as every one is."""
    assert reply.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = reply.json()
    assert {"type", "title", "status", "detail", "code"} <= set(problem)
    assert problem["status"] == reply.status_code
    assert problem["type"] == "about:blank"
    assert problem["title"] == PHRASES.get(reply.status_code, HTTPStatus(reply.status_code).phrase)
    assert problem["detail"]
    for one in problem.get("errors", []):
        assert {"pointer", "detail", "code"} <= set(one)
    return problem


def _ask(stand: Stand, wrong: Wrong) -> requests.Response:
    callers = {"alice": stand.alice, "bob": stand.bob, "admin": stand.api.admin}
    callers |= {"nobody": stand.api.nobody, "gateway": stand.api.gateway}
    path = wrong.path.replace("{key}", stand.key).replace("{gone}", stand.gone)
    body = wrong.body
    if isinstance(body, dict) and "{root}" in str(body.get("model_source")):
        body = {**body, "model_source": body["model_source"].replace("{root}", str(stand.api.root))}
    path = path.replace("{token}", str(stand.alice.token))
    return callers[wrong.who].ask(wrong.method, path, body, headers=dict(wrong.headers))
