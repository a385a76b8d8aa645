"""Which handler a path has: fixed paths first, then those that begin with a session's or a trajectory's uid.

    /sessions/create, /v1/chat/completions, …        fixed
    /{uuid}/v1/chat/completions                      a session's (Atropos)
    /{trajectory}/{prompt}/v1/chat/completions       a trajectory's (Claw-R1); with or without v1
    /{uuid}/nodes, /{uuid}                           a session's

So a `prompt_uid` is never `v1`, and a `trajectory_uid` never the first part of a fixed path.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from moorage.gateway.http.faults import Fault, Shape
from moorage.gateway.http.reply import Reply, Stream
from moorage.gateway.http.request import Request
from moorage.gateway.http.uids import RESERVED, UID_RULE, is_uid
from moorage.gateway.routes import (
    control,
    dialects,
    logprobs,
    open_models,
    operations,
    pool,
    pool_marks,
    pool_retention,
    rewards,
    sessions,
    trajectories,
    whitebox,
)

if TYPE_CHECKING:
    from moorage.gateway.gateway import Gateway

__all__ = ["Route", "check_uids", "find_route", "shape_of"]

Handler = Callable[["Gateway", Request], Awaitable["Reply | Stream"]]


class Route(NamedTuple):
    """A handler, the shape in which its faults are told, and its name in the metrics."""

    handler: Handler
    shape: Shape
    name: str
    calls: bool = False
    """Whether it is a model call: those are limited, and refused while the gateway is paused."""


MODEL_CALLS = frozenset(
    (
        *(open_models.chat, open_models.completions, open_models.embeddings, whitebox.generate),
        *(sessions.chat, sessions.completions, trajectories.chat, trajectories.completions),
        *(dialects.open_messages, dialects.session_messages, dialects.trajectory_messages),
        *(logprobs.open_logprobs, logprobs.of_session),
        *(dialects.open_responses, dialects.session_responses, dialects.trajectory_responses),
    )
)


def _table(shape: Shape, *rows: tuple[str, str, Handler]) -> dict[str, dict[str, Route]]:
    table: dict[str, dict[str, Route]] = {}
    for method, path, handler in rows:
        table.setdefault(path, {})[method] = Route(handler, shape, path, handler in MODEL_CALLS)
    return table


FIXED = {
    **_table(
        "openai",
        ("POST", "/v1/chat/completions", open_models.chat),
        ("POST", "/v1/completions", open_models.completions),
        ("POST", "/v1/embeddings", open_models.embeddings),
        ("POST", "/v1/responses", dialects.open_responses),
        ("POST", "/v1/logprobs", logprobs.open_logprobs),
        ("GET", "/v1/models", open_models.models),
        ("POST", "/sessions/create", sessions.create),
        ("GET", "/sessions", sessions.listed),
        ("GET", "/servers", operations.servers),
        ("POST", "/setup", operations.setup),
        ("GET", "/health", operations.health),
    ),
    **_table(
        "anthropic",
        ("POST", "/v1/messages", dialects.open_messages),
        ("POST", "/v1/messages/count_tokens", dialects.open_count),
    ),
    **_table(
        "problem",
        ("POST", "/generate", whitebox.generate),
        ("POST", "/submit_steps", whitebox.submit_steps),
        ("POST", "/compute_reward", rewards.compute_reward),
        ("POST", "/init_trajectory", trajectories.init),
        ("GET", "/ready", operations.ready),
        ("GET", "/pause", control.paused),
        ("POST", "/pause", control.pause),
        ("POST", "/resume", control.resume),
        ("GET", "/weights", control.weights),
        ("POST", "/weights", control.set_weights),
        ("GET", "/metrics", operations.metrics),
        ("GET", "/docs", operations.docs),
        ("GET", "/openapi.json", operations.openapi),
        ("POST", "/pool/lease", pool.lease),
        ("POST", "/pool/ack", pool.ack),
        ("POST", "/pool/nack", pool.nack),
        ("POST", "/pool/marks", pool_marks.marks),
        ("POST", "/pool/rewards", rewards.give),
        ("GET", "/pool/rewards", rewards.history),
        ("POST", "/pool/retain", pool_retention.retain),
        ("GET", "/pool/stats", pool.stats),
        ("GET", "/pool/steps", pool.steps),
        ("GET", "/pool/trajectories", pool.trajectories),
        ("GET", "/pool/events", pool.events),
    ),
}

PROBLEMS = frozenset(
    path.split("/")[1] for path, routes in FIXED.items() for route in routes.values() if route.shape == "problem"
)
"""First path parts under which faults are told as problems."""

SESSION = {
    **_table(
        "openai",
        ("GET", "nodes", sessions.nodes),
        ("DELETE", "", sessions.delete),
        ("POST", "v1/chat/completions", sessions.chat),
        ("POST", "v1/chat/completions/render", sessions.render),
        ("POST", "v1/completions", sessions.completions),
        ("GET", "v1/models", sessions.models),
        ("POST", "v1/responses", dialects.session_responses),
        ("POST", "v1/logprobs", logprobs.of_session),
    ),
    **_table(
        "anthropic",
        ("POST", "v1/messages", dialects.session_messages),
        ("POST", "v1/messages/count_tokens", dialects.session_count),
    ),
}
"""After `/{uuid}/`."""

TRAJECTORY = {
    **_table(
        "openai",
        ("POST", "chat/completions", trajectories.chat),
        ("POST", "completions", trajectories.completions),
        ("GET", "models", trajectories.models),
        ("POST", "responses", dialects.trajectory_responses),
    ),
    **_table(
        "anthropic",
        ("POST", "messages", dialects.trajectory_messages),
        ("POST", "messages/count_tokens", dialects.trajectory_count),
    ),
    **_table(
        "problem",
        ("POST", "register_trajectory", trajectories.register),
        ("POST", "complete_trajectory", trajectories.complete_here),
    ),
}
"""After `/{trajectory}/{prompt}/`, with or without `v1/`."""


MODEL = "/v1/models/"
"""Before a model's name, which may have slashes."""


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route and what stands in the path, still to be checked. Raises a Fault of 404 or 405."""
    fixed = FIXED.get(path)
    if fixed is not None:
        return _by_method(fixed, method, path), {}
    uid, _, rest = path[1:].partition("/")
    if rest and rest in SESSION and uid not in RESERVED:  # nearly all
        return _by_method(SESSION[rest], method, path), {"uid": uid}
    parts = path.split("/")[1:]
    if parts[0] == "docs" and len(parts) == 2:
        pages = {"GET": Route(operations.docs_file, "problem", "/docs/{file}")}
        return _by_method(pages, method, path), {"file": parts[1]}
    if parts[0] == "complete_trajectory" and len(parts) == 2:
        route = Route(trajectories.complete, "problem", "/complete_trajectory/{uid}")
        return _by_method({"POST": route}, method, path), {"uid": parts[1]}
    if path.startswith(MODEL) and path != MODEL:
        named = {"GET": Route(open_models.model, "openai", "/v1/models/{model}")}
        return _by_method(named, method, path), {"model": path.removeprefix(MODEL)}
    if parts[0] in RESERVED:
        raise Fault(404, f"no route {path}", code="route_unknown")
    return _of_uid(method, path, parts)


def shape_of(path: str) -> Shape:
    """How a fault is told for a path without a route."""
    if path in FIXED:
        return next(iter(FIXED[path].values())).shape
    return "problem" if path.split("/")[1] in PROBLEMS else "openai"


def check_uids(route: Route, params: Mapping[str, str]) -> None:
    """Raises a Fault of 422 for what stands in a trajectory's path as a uid and is none. No session has such a uid."""
    if route.shape != "problem" and "prompt_uid" not in params:
        return
    for name in ("uid", "prompt_uid"):
        if name in params and not is_uid(params[name]):
            message = f"{params[name]!r} is no uid: {UID_RULE}"
            errors = ({"pointer": "", "detail": message},)
            raise Fault(422, message, code="uid_wrong", errors=errors)


def _of_uid(method: str, path: str, parts: list[str]) -> tuple[Route, dict[str, str]]:
    if len(parts) == 1:
        return _by_method(SESSION[""], method, path), {"uid": parts[0]}
    if parts[1] in ("v1", "nodes"):
        raise Fault(404, f"no route {path}", code="route_unknown")
    rest = "/".join(parts[3:] if parts[2:3] == ["v1"] else parts[2:])
    if rest not in TRAJECTORY:
        raise Fault(404, f"no route {path}", code="route_unknown")
    route = _by_method(TRAJECTORY[rest], method, path)
    return route, {"uid": parts[0], "prompt_uid": parts[1]}


def _by_method(routes: dict[str, Route], method: str, path: str) -> Route:
    if method == "HEAD":
        method = "GET"
    if method not in routes:
        allowed = ", ".join(sorted(routes))
        raise Fault(405, f"{method} {path}: it takes {allowed}", code="method_not_allowed", allow=allowed)
    return routes[method]
