"""Which door a gateway has."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from moorage.gateway.auth.failures import Failures
from moorage.gateway.auth.key_door import KeyDoor
from moorage.gateway.auth.key_ring import KeyRing
from moorage.gateway.auth.open_door import OpenDoor
from moorage.gateway.auth.policy import is_loopback, keys_needed
from moorage.gateway.auth.refusals import no_admin_key

if TYPE_CHECKING:
    from moorage.gateway.auth.door import Door
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.settings import Settings

__all__ = ["door_of", "refuse_keyless"]


def refuse_keyless(settings: Settings) -> None:
    """Raises PreflightError when keys will be asked for and there is no store yet that could hold one.

    Before anything is bound or made; what is there is looked at when the door opens.
    """
    address = "127.0.0.1" if settings.host == "localhost" else settings.host
    scheme, _, place = settings.db.partition(":///")
    if keys_needed(settings.auth, address) and scheme == "sqlite" and place and not Path(place).exists():
        raise no_admin_key(settings.db)


def door_of(gateway: Gateway, address: str, *, again: bool) -> Door:
    """`address`: that the socket is bound to. Says so loudly when strangers come in without a key.

    `again`: of a worker in the place of one that died, which opens whoever holds keys by now.
    """
    settings, log = gateway.settings, gateway.log
    if not keys_needed(settings.auth, address):
        loopback = is_loopback(address)
        if not loopback:
            said = f"whoever reaches {address} may read and change everything here: --auth none was asked for"
            log.warning("open_to_everybody", message=said, host=address)
        return OpenDoor(loopback=loopback)
    ring = KeyRing(gateway.store, clock=gateway.clock, monotonic=time.monotonic, log=log)
    return KeyDoor(
        ring,
        store=gateway.store,
        sessions=gateway.sessions,
        failures=Failures(time.monotonic),
        random_bytes=os.urandom,
        log=log,
        db=settings.db,
        wants_admin=not again,
    )
