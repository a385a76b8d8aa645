"""How often an address may show a wrong key: a bucket of tokens for each, in bounded memory."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Failures"]

BURST = 30.0
"""Failures that are told one after the other."""
PER_S = 0.5
"""And then so many a second."""
EPSILON = 1e-6
ADDRESSES = 4096
"""Of which failures are remembered; the one that failed longest ago is forgotten first."""


class Failures:
    """Counts failures by address. It is for wrong keys: who shows a right one never meets it.

    A network of IPv6 (/64) counts as one address, since one host has all of it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds that never go back."""
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Network → (tokens left, when that was)."""

    def __len__(self) -> int:
        return len(self._buckets)

    def spent(self, address: str) -> bool:
        """Whether a failure would not be told now."""
        tokens, at = self._buckets.get(_network(address), (BURST, 0.0))
        return tokens + (self._clock() - at) * PER_S <= 1.0 - EPSILON

    def wait_s(self, address: str) -> int:
        """Note one failure: 0 when it may be told, else whole seconds until the next may."""
        network, now = _network(address), self._clock()
        tokens, at = self._buckets.pop(network, (BURST, now))
        tokens = min(BURST, tokens + (now - at) * PER_S)
        told = tokens > 1.0 - EPSILON
        self._buckets[network] = (tokens - 1.0 if told else tokens, now)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)
        return 0 if told else max(1, math.ceil((1.0 - tokens) / PER_S - EPSILON))


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
    return str(parsed)
