"""Whether a host is this machine, by its name alone: nothing is looked up, and no name that only leads here counts."""

from __future__ import annotations

import ipaddress

__all__ = ["is_loopback"]


def is_loopback(host: str) -> bool:
    """host: a name or an address, without port or brackets: localhost, of 127.0.0.0/8, or ::1."""
    try:
        return host.lower() == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
