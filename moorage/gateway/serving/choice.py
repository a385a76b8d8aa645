"""A gateway's part in a serving control plane, made from its settings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from moorage.gateway.serving.accounts import Accounts
from moorage.gateway.serving.follower import token_of
from moorage.gateway.serving.rations import Rations
from moorage.gateway.serving.serving import Serving
from moorage.gateway.workers.shares import share_of_followed

if TYPE_CHECKING:
    from moorage.engines.fleet.following import Followed
    from moorage.gateway.gateway import Gateway

__all__ = ["serving_of"]


def serving_of(gateway: Gateway, url: str) -> Serving:
    """`url`: of the serving API. Raises PreflightError for a token's variable that is not set."""
    gateway.proof.believes = False
    peers = None if gateway.company is None else gateway.company.peers
    share: Callable[[list[Followed]], list[Followed]] = list
    if peers is not None:
        share = partial(share_of_followed, index=peers.index, count=peers.count)
    own = gateway.settings.serving_token_env
    return Serving(
        url,
        token_of(own, os.environ),
        fleet=gateway.fleet,
        accounts=Accounts(Rations(time.monotonic), peers),
        clock=time.monotonic,
        log=gateway.log,
        share=share,
        # Whatever the feed says, this gateway's own token goes to no endpoint.
        environ={name: value for name, value in os.environ.items() if name != own},
    )
