"""How often an address may offer a credential that nobody knows: ten at once, then one a second.

Nobody guesses 32 random bytes; this keeps a script with an old token, or one that tries, from asking the database and
the issuer all day. A credential that was good a moment ago never waits here, so that callers behind one proxy do not
suffer for one of them. Bounded: of many addresses those that failed the longest ago are forgotten.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.types import Scope

__all__ = ["BURST", "Failures", "address_of"]

BURST = 10.0
PER_SECOND = 1.0
ADDRESSES = 10_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Failures:
    def __init__(self, monotonic: Callable[[], float], *, addresses: int = ADDRESSES) -> None:
        self._monotonic = monotonic
        self._most = addresses
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # address -> (failures left, as of when)

    def __len__(self) -> int:
        return len(self._left)

    def _now(self, address: str) -> float:
        left, at = self._left.get(address, (BURST, 0.0))
        return min(BURST, left + (self._monotonic() - at) * PER_SECOND)

    def wait_seconds(self, address: str) -> int:
        """0 where another try is free, else how long until one is."""
        left = self._now(address)
        return 0 if left >= 1 else math.ceil((1 - left) / PER_SECOND)

    def note(self, address: str) -> None:
        """One more failed."""
        self._left[address] = (max(self._now(address) - 1, 0.0), self._monotonic())
        self._left.move_to_end(address)
        while len(self._left) > self._most:
            self._left.popitem(last=False)


def address_of(scope: Scope, headers: Headers, trusted: Sequence[Network]) -> str:
    """Whose failures count together: the peer, or whom trusted proxies say they ask for. IPv6 by its /64, which one
    machine has all of."""
    client: tuple[str, int] | None = scope.get("client")
    told = [client[0] if client else ""]
    if trusted:
        told = [*(part.strip() for part in headers.get("x-forwarded-for", "").split(",") if part.strip()), *told]
    found = told[-1]
    for found in reversed(told):
        try:
            address = ipaddress.ip_address(found)
        except ValueError:
            return found[:64]
        if not any(address in network for network in trusted):
            break
    else:
        address = ipaddress.ip_address(found)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
