"""Ray's REST: the dashboard's, and the routes of what it serves. Every fault is one of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from moorage.errors import FailedError
from moorage.serving.backends.contract import BackendUnreachable

__all__ = ["RayRest"]

APPLICATIONS = "/api/serve/applications/"
ASK_S = 30.0
"""The first question after a start takes seconds: the dashboard then joins the cluster."""
TELL_S = 120.0
"""The first list starts Serve itself."""
PROBE_S = 5.0
LARGEST_LOG_BYTES = 4 << 20
MESSAGE_CHARACTERS = 1000


class RayRest:
    """One cluster. `address` is its dashboard's URL, `token` what it asks for, if anything."""

    def __init__(self, address: str, token: Callable[[], str | None] = lambda: None) -> None:
        self.address = address.rstrip("/")
        self._token = token
        self._client = httpx.Client(trust_env=False, follow_redirects=False)

    def details(self) -> dict[str, Any]:
        """What Serve is and runs."""
        found = self._json("GET", APPLICATIONS, ASK_S)
        if not isinstance(found, dict) or not isinstance(found.get("applications"), dict):
            raise self._unreachable("answered something else than its applications")
        return found

    def declare(self, body: Mapping[str, Any]) -> None:
        """Give it the whole list. Raises FailedError `ray_refused`: then nothing was changed."""
        reply = self._send("PUT", APPLICATIONS, TELL_S, body)
        if reply.status_code // 100 == 4:
            raise FailedError(
                f"Ray refused the list of applications: {_short(reply.text)}",
                code="ray_refused",
                hint="its dashboard's log says more",
            )
        self._check(reply)

    def nodes(self) -> list[dict[str, Any]]:
        """The cluster's nodes, those that are gone too."""
        found = self._json("GET", "/api/v0/nodes", ASK_S)
        return list(found["data"]["result"]["result"])

    def version(self) -> str:
        return str(self._json("GET", "/api/version", ASK_S)["ray_version"])

    def log_files(self, node_id: str, pattern: str) -> list[str]:
        """Names of log files on a node."""
        reply = self._send("GET", "/api/v0/logs", ASK_S, query={"node_id": node_id, "glob": pattern})
        self._check(reply)
        kinds = reply.json()["data"]["result"]
        return sorted(str(name) for names in kinds.values() for name in names)

    def log(self, node_id: str, filename: str, lines: int) -> list[str]:
        """Its last lines; none when the file or its node is gone."""
        query = {"node_id": node_id, "filename": filename, "lines": str(lines), "filter_ansi_code": "true"}
        reply = self._send("GET", "/api/v0/logs/file", ASK_S, query=query)
        if reply.status_code != 200:
            return []
        return reply.content[-LARGEST_LOG_BYTES:].decode(errors="replace").splitlines()[-lines:]

    def answers(self, base_url: str) -> bool:
        """Whether an application's route is open. Ray's token is for Ray, not for what it serves."""
        try:
            return self._client.get(f"{base_url}/models", timeout=PROBE_S).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self._client.close()

    def _json(self, method: str, path: str, timeout_s: float) -> Any:
        reply = self._send(method, path, timeout_s)
        self._check(reply)
        try:
            return reply.json()
        except ValueError as fault:
            raise self._unreachable("answered no JSON") from fault

    def _send(
        self,
        method: str,
        path: str,
        timeout_s: float,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        token = self._token()
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            headers["Content-Type"] = "application/json"
        try:
            return self._client.request(
                method, self.address + path, headers=headers, content=content, params=query, timeout=timeout_s
            )
        except httpx.TimeoutException as fault:
            raise self._unreachable(f"did not answer within {timeout_s:g} s") from fault
        except (httpx.HTTPError, httpx.InvalidURL) as fault:
            raise self._unreachable(f"does not answer ({type(fault).__name__})") from fault

    def _check(self, reply: httpx.Response) -> None:
        if reply.status_code in (401, 403):
            raise self._unreachable("does not accept our token: see serving.ray.token_env")
        if reply.status_code != 200:
            raise self._unreachable(f"answered {reply.status_code}: {_short(reply.text)}")

    def _unreachable(self, what: str) -> BackendUnreachable:
        return BackendUnreachable(
            f"Ray at {self.address} {what}",
            hint="what runs there goes on; it is asked again, and nothing declared is lost",
        )


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= MESSAGE_CHARACTERS else f"…{text[-MESSAGE_CHARACTERS:]}"
