"""Every route has a rule, and the rules are what docs/security.md says."""

from __future__ import annotations

import inspect
import re

import pytest

from moorage.gateway.auth.rules import RULES, rule_of
from moorage.gateway.http import paths

TABLES = {"fixed": paths.FIXED, "session": paths.SESSION, "trajectory": paths.TRAJECTORY}
OF_A_SESSION = {"session", "trajectory"}


def routes() -> list[tuple[str, str, str]]:
    """(table, method, name) of every route that there is; those that `find_route` makes by itself are in the source."""
    found = [
        (table, method, route.name)
        for table, rows in TABLES.items()
        for by_method in rows.values()
        for method, route in by_method.items()
    ]
    source = inspect.getsource(paths.find_route)
    made = re.findall(r'"(/[a-z_0-9/]+/\{[a-z_]+\})"', source)
    assert {"/docs/{file}", "/complete_trajectory/{uid}", "/v1/models/{model}"} <= set(made)
    methods = {"/docs/{file}": "GET", "/v1/models/{model}": "GET"}
    return [*found, *(("made", methods.get(name, "POST"), name) for name in made)]


@pytest.mark.parametrize(("table", "method", "name"), routes(), ids=lambda value: value or "uid")
def test_every_route_has_a_rule(table: str, method: str, name: str) -> None:
    assert (method, name) in RULES, f"{method} {name}: say in moorage/gateway/auth/rules.py who may use it"
    if table == "fixed":
        assert RULES[method, name] != "session", "a session's key opens routes with a session's uid in their path alone"


def test_every_rule_has_a_route() -> None:
    assert set(RULES) == {(method, name) for _, method, name in routes()}


def test_what_nobody_thought_of_is_for_admins() -> None:
    assert rule_of("POST", "/shutdown") == "admin"
    assert rule_of("PATCH", "/health") == "admin"


def test_head_is_as_get() -> None:
    assert all(rule_of("HEAD", name) == rule for (method, name), rule in RULES.items() if method == "GET")


def test_nothing_that_changes_anything_is_open() -> None:
    assert {method for (method, _), rule in RULES.items() if rule == "open"} == {"GET"}


def test_what_a_session_may_is_to_call_register_and_complete() -> None:
    allowed = {name for (_, name), rule in RULES.items() if rule == "session"}
    words = ("completions", "models", "register_trajectory", "complete_trajectory", "messages", "responses", "logprobs")
    assert all(any(word in name for word in words) for name in allowed), allowed
    assert not any("render" in name or "nodes" in name for name in allowed)


@pytest.mark.parametrize(
    ("method", "name"),
    [("POST", "/setup"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/weights"), ("GET", "/metrics")],
)
def test_the_gateway_itself_is_for_admins(method: str, name: str) -> None:
    assert rule_of(method, name) == "admin"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_the_pool_is_never_for_sessions(method: str) -> None:
    names = [name for _, _, name in routes() if name.startswith("/pool")]
    assert names
    assert all(rule_of(method, name) in ("trainer", "admin") for name in names)
