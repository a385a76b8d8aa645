"""A trainer that leases, acknowledges most, gives some back and forgets some."""

from __future__ import annotations

import random

from tests.campaigns.soak.load import Load
from tests.campaigns.soak.wire import Wire

__all__ = ["train"]

LEASE_S = 2.0


async def train(load: Load, wire: Wire, dice: random.Random) -> None:
    """One lease of some groups, and what becomes of each."""
    ask = {"max_groups": 8, "lease_s": LEASE_S, "wait_s": 0.5, "channel": dice.choice(("train", "eval"))}
    if dice.random() < 0.1:
        ask["marks"] = {"trainable": True}
    leases = (await load.ask(wire, "POST", "/pool/lease", ask)).json()["leases"]
    for lease in leases:
        group = (lease["channel"], lease["prompt_uid"])
        load.findings.check(group not in load.acked, f"{group} was delivered after its ack")
        ids, throw = {"lease_ids": [lease["lease_id"]]}, dice.random()
        if throw < 0.05:
            await load.ask(wire, "POST", "/pool/nack", ids, allowed=(200, 409))
            load.findings.count("leases given back")
        elif throw < 0.1:
            load.findings.count("leases left to expire")
        elif (await load.ask(wire, "POST", "/pool/ack", ids, allowed=(200, 409))).status == 200:
            load.acked.add(group)
            load.findings.count("leases acknowledged")
