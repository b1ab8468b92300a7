"""What stands for a stage's parameters beside its processor and version: what an item takes changes with them. Pure.

Short parameters are told as they are, so that a person knows which they were; of longer ones the beginning and a digest
of all. Equal for equal parameters, however they are written, and different for different ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["MOST_CHARACTERS", "shown_parameters"]

MOST_CHARACTERS = 60
_DIGEST = 8


def shown_parameters(parameters: Mapping[str, Any]) -> str:
    """`granularity=sentence, model=small`; "" where there are none."""
    if not parameters:
        return ""
    told = ", ".join(f"{name}={_value(parameters[name])}" for name in sorted(parameters))
    if len(told) <= MOST_CHARACTERS and told.isprintable():
        return told
    digest = hashlib.sha256(orjson.dumps(parameters, option=orjson.OPT_SORT_KEYS)).hexdigest()[:_DIGEST]
    begun = "".join(sign if sign.isprintable() else " " for sign in told[: MOST_CHARACTERS - _DIGEST - 2])
    return f"{begun}… {digest}"


def _value(value: object) -> str:
    """Texts in quotes where they could be taken for something else."""
    if isinstance(value, str) and value.isidentifier() and value not in ("true", "false", "null"):
        return value
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
