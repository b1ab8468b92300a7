"""Amounts of resources as Kubernetes writes them: `500m`, `2Gi`, `1e3`. Pure.

The official client has `parse_quantity`, which costs its whole package at import (0.25 s, for a command that may never
come to a cluster) and is not there without the extra. It takes what no API server takes (`Infinity`, `1_000`), and
makes 0.1000000000000000055 of a 0.1 in YAML, which is 101m of CPU. What both read as the API server does they read the
same, which a test holds.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

__all__ = ["amount", "written"]

_POWERS = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_QUANTITY = re.compile(r"([+-]?(?:[0-9]+[.]?[0-9]*|[.][0-9]+))(?:[eE]([+-]?[0-9]+)|([A-Za-z]*))", re.A)


def amount(text: object) -> Decimal:
    """Raises ValueError for what is none."""
    found = _QUANTITY.fullmatch(str(text))
    suffix = (found and found[3]) or ""
    if found is None or (suffix not in _POWERS and suffix not in _BINARY):
        raise ValueError(f"{text!r} is no quantity")
    number = Decimal(found[1])
    if suffix in _BINARY:
        return number * Decimal(1024) ** _BINARY[suffix]
    return number * Decimal(10) ** int(found[2] or _POWERS[suffix])


def written(value: Decimal, resource: str) -> str:
    """Never less than `value`: CPU in thousandths, bytes in whole Mi, all else in whole units."""
    if resource.endswith("cpu"):
        return f"{math.ceil(value * 1000)}m"
    if resource.endswith(("memory", "storage")):
        return f"{math.ceil(value / 1024**2)}Mi"
    return str(math.ceil(value))
