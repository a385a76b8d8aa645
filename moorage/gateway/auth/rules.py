"""Which role a route takes: one table, and nothing else decides it.

Roles stand on each other: what a trainer may an admin may, too. A session's key opens the routes with the rule
`session`, for its own session alone. `tests/unit/gateway/test_auth_rules.py` asks for every route that exists; one
without a rule fails there, and takes an admin's key until it has one.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["RULES", "Rule", "rule_of"]

Rule = Literal["open", "session", "trainer", "admin"]

RULES: dict[tuple[str, str], Rule] = {
    # For load balancers and people: they say little, or what everybody may know.
    ("GET", "/health"): "open",
    ("GET", "/ready"): "open",
    ("GET", "/docs"): "open",
    ("GET", "/docs/{file}"): "open",
    ("GET", "/openapi.json"): "open",
    # An agent in its own session.
    ("POST", "v1/chat/completions"): "session",
    ("POST", "v1/completions"): "session",
    ("POST", "v1/responses"): "session",
    ("POST", "v1/messages"): "session",
    ("POST", "v1/messages/count_tokens"): "session",
    ("GET", "v1/models"): "session",
    ("POST", "chat/completions"): "session",
    ("POST", "completions"): "session",
    ("POST", "responses"): "session",
    ("POST", "messages"): "session",
    ("POST", "messages/count_tokens"): "session",
    ("GET", "models"): "session",
    ("POST", "register_trajectory"): "session",
    ("POST", "complete_trajectory"): "session",
    ("POST", "/complete_trajectory/{uid}"): "session",
    # Models without a record.
    ("POST", "/v1/chat/completions"): "trainer",
    ("POST", "/v1/completions"): "trainer",
    ("POST", "/v1/embeddings"): "trainer",
    ("POST", "/v1/responses"): "trainer",
    ("POST", "/v1/logprobs"): "trainer",
    ("POST", "/v1/messages"): "trainer",
    ("POST", "/v1/messages/count_tokens"): "trainer",
    ("GET", "/v1/models"): "trainer",
    ("GET", "/v1/models/{model}"): "trainer",
    # Sessions and trajectories as a whole, and what was sampled in them.
    ("POST", "/sessions/create"): "trainer",
    ("GET", "/sessions"): "trainer",
    ("DELETE", ""): "trainer",
    ("GET", "nodes"): "trainer",
    ("POST", "v1/chat/completions/render"): "trainer",
    ("POST", "v1/logprobs"): "trainer",
    ("POST", "/init_trajectory"): "trainer",
    ("POST", "/generate"): "trainer",
    ("POST", "/submit_steps"): "trainer",
    ("POST", "/compute_reward"): "trainer",
    ("GET", "/servers"): "trainer",
    ("GET", "/weights"): "trainer",
    ("GET", "/pause"): "trainer",
    # The pool.
    ("POST", "/pool/lease"): "trainer",
    ("POST", "/pool/ack"): "trainer",
    ("POST", "/pool/nack"): "trainer",
    ("POST", "/pool/marks"): "trainer",
    ("POST", "/pool/rewards"): "trainer",
    ("GET", "/pool/rewards"): "trainer",
    ("GET", "/pool/stats"): "trainer",
    ("GET", "/pool/steps"): "trainer",
    ("GET", "/pool/trajectories"): "trainer",
    ("GET", "/pool/events"): "trainer",
    # The gateway itself.
    ("POST", "/setup"): "admin",
    ("POST", "/pool/retain"): "admin",
    ("GET", "/metrics"): "admin",
    ("POST", "/pause"): "admin",
    ("POST", "/resume"): "admin",
    ("POST", "/weights"): "admin",
}
"""(method, route's name) → the least role."""


def rule_of(method: str, route: str) -> Rule:
    """The rule of a route by its name in `moorage.gateway.http.paths`; HEAD is as GET."""
    return RULES.get(("GET" if method == "HEAD" else method, route), "admin")
