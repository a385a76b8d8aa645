"""One channel of the pool, as a trainer and its rollouts see it."""

from __future__ import annotations

from typing import Any

import requests

from tests.contract.gateway_calls import fresh, step, submit
from tests.contract.gateway_process import GatewayProcess


class Channel:
    """One channel of the pool."""

    def __init__(self, gateway: GatewayProcess, name: str) -> None:
        self.gateway = gateway
        self.name = name

    def rollout(self, prompt_uid: str, *, complete: bool = True, steps: int = 1, **fields: Any) -> str:
        """A trajectory of a group; its uid."""
        uid = fresh()
        made = [
            step(uid, index, prompt_uid=prompt_uid, is_last=complete and index == steps - 1, **fields)
            for index in range(steps)
        ]
        reply = submit(self.gateway, *made, channel=self.name)
        assert reply.status_code == 200, reply.text
        return uid

    def lease(self, **fields: Any) -> list[dict[str, Any]]:
        reply = self.gateway.post("/pool/lease", {"channel": self.name, **fields})
        assert reply.status_code == 200, reply.text
        assert set(reply.json()) == {"leases", "skipped_stale"}
        found: list[dict[str, Any]] = reply.json()["leases"]
        return found

    def leased(self, **fields: Any) -> list[str]:
        """The prompt_uids of what is leased now."""
        return [one["prompt_uid"] for one in self.lease(**fields)]

    def ack(self, *leases: dict[str, Any]) -> requests.Response:
        return self.gateway.post("/pool/ack", {"lease_ids": [one["lease_id"] for one in leases]})

    def nack(self, *leases: dict[str, Any], **fields: Any) -> requests.Response:
        return self.gateway.post("/pool/nack", {"lease_ids": [one["lease_id"] for one in leases], **fields})

    def groups(self, **query: Any) -> dict[str, int]:
        reply = self.gateway.get("/pool/stats", params={"channel": self.name, **query})
        assert reply.status_code == 200, reply.text
        found: dict[str, int] = reply.json()["channels"][self.name]["groups"]
        return found
