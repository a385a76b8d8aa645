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
from moorage.gateway.serving.door import ServedDoor

if TYPE_CHECKING:
    from moorage.gateway.auth.door import Door
    from moorage.gateway.gateway import Gateway
    from moorage.gateway.serving.serving import Serving
    from moorage.gateway.settings import Settings

__all__ = ["door_of", "refuse_keyless"]


def refuse_keyless(settings: Settings) -> None:
    """Raises PreflightError when keys will be asked for and there is no store yet that could hold one.

    Before anything is bound or made; what is there is looked at when the door opens.
    """
    address = "127.0.0.1" if settings.host == "localhost" else settings.host
    scheme, _, place = settings.db.partition(":///")
    needed = settings.auth == "keys" if settings.serving_url is not None else keys_needed(settings.auth, address)
    if needed and scheme == "sqlite" and place and not Path(place).exists():
        raise no_admin_key(settings.db)


def door_of(gateway: Gateway, address: str, *, again: bool) -> Door:
    """`address`: that the socket is bound to. Says so loudly when strangers come in without a key.

    `again`: of a worker in the place of one that died, which opens whoever holds keys by now.
    """
    settings = gateway.settings
    if gateway.serving is not None:
        return _served_door(gateway, gateway.serving, address, again=again)
    if not keys_needed(settings.auth, address):
        _warn_of_strangers(gateway, address)
        return OpenDoor(loopback=is_loopback(address))
    return _key_door(gateway, wants_admin=not again)


def _served_door(gateway: Gateway, serving: Serving, address: str, *, again: bool) -> Door:
    """Models are as open as the serving API says; only with `--auth keys` a store without an admin key is refused."""
    settings = gateway.settings
    guarded, strict = keys_needed(settings.auth, address), settings.auth == "keys"
    if not guarded:
        _warn_of_strangers(gateway, address)
    door = ServedDoor(
        _key_door(gateway, wants_admin=strict and not again),
        OpenDoor(loopback=is_loopback(address)),
        serving.accounts,
        guarded=guarded,
        strict=strict,
    )
    serving.on_feed.append(door.hear)
    return door


def _warn_of_strangers(gateway: Gateway, address: str) -> None:
    if not is_loopback(address):
        said = f"whoever reaches {address} may read and change everything here: --auth none was asked for"
        gateway.log.warning("open_to_everybody", message=said, host=address)


def _key_door(gateway: Gateway, *, wants_admin: bool) -> KeyDoor:
    settings, log = gateway.settings, gateway.log
    ring = KeyRing(gateway.store, clock=gateway.clock, monotonic=time.monotonic, log=log)
    return KeyDoor(
        ring,
        store=gateway.store,
        sessions=gateway.sessions,
        failures=Failures(time.monotonic),
        random_bytes=os.urandom,
        log=log,
        db=settings.db,
        wants_admin=wants_admin,
    )
