"""Words that several programs share, in one place. Imports nothing of ours: every `domain/` may use it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, get_args

__all__ = [
    "DEFAULT_GRANULARITY",
    "EVENT_TYPES",
    "FAILURE_KINDS",
    "GRANULARITIES",
    "MAX_AMOUNT",
    "MAX_DIMENSIONS",
    "MAX_LIMIT_KEYS",
    "MICROS",
    "Granularity",
    "counted",
    "dollars",
    "event_types_problem",
    "lane_of",
    "limit_key_problem",
    "limit_keys_problem",
    "numbers_there_are",
    "source_name_problem",
]

Granularity = Literal["sentence", "paragraph"]
"""What a segment of a document is."""

GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
DEFAULT_GRANULARITY: Granularity = "sentence"

FAILURE_KINDS = (
    *("item", "worker_lost", "timeout", "throttled", "provider", "invalid_result", "budget", "refused"),
    *("cancelled", "unknown", "unconfirmed", "unavailable"),
    *("out_of_memory", "evicted", "preempted", "node_lost"),
)
"""Kinds of failure that rules may name. A processor may use words of its own; only rules without kinds take those."""

EVENT_TYPES = (
    *("run.created", "run.state", "run.updated", "stage.state", "stage.updated", "stage.failing", "stage.forgiven"),
    *("gate.approved", "gate.rejected"),
    *("budget.held", "budget.freed", "budget.overrun"),
    *("limit.closed", "limit.probing", "limit.ramping", "limit.open"),
    *("item.retry", "item.failed", "item.deferred", "item.heal", "item.healed", "item.claimed", "item.confirmed"),
    *("items.action", "items.action_done"),
    *("lease.lost", "report.refused"),
    *("workers.short", "workers.back", "workers.lost"),
)
"""What the events of a run may tell: a test holds that the scheduler writes no others."""

MAX_LIMIT_KEYS = 8
MAX_AMOUNT = 10**12
"""Of what one attempt cost in millionths of a dollar, or used of a dimension: sums of thousands fit into 64 bits."""
MAX_DIMENSIONS = 16
"""Of what one attempt used."""
_MAX_KEY_CHARACTERS = 200
_MAX_LANE_BYTES = 2_000
"""PostgreSQL keeps no longer words in an index."""
_LIMIT_KEY = re.compile(r"[a-z][a-z0-9_-]*:[^\s*]+")
_OURS = ("stage:", "lane:")


def lane_of(keys: Iterable[str]) -> str:
    """The lane of an item with these limit keys: sorted, each once, with one space between."""
    return " ".join(sorted(set(keys)))


def limit_key_problem(key: object) -> str:
    """What is wrong with a limit key, e.g. `provider:anthropic`; empty when all is well."""
    if not isinstance(key, str):
        return f"a limit key is {type(key).__name__}, not text"
    if len(key) > _MAX_KEY_CHARACTERS:
        return f"limit key {key[:40] + '…'!r} has {len(key):,} characters, it may have {_MAX_KEY_CHARACTERS}"
    if not _LIMIT_KEY.fullmatch(key) or not key.isprintable():
        return f"limit key {key!r} is not `kind:name` (kind: a-z, 0-9, _ and -; name: no spaces, no *)"
    if key.startswith(_OURS):
        return f"limit key {key!r} begins with {key.partition(':')[0]}:, which the scheduler uses itself"
    return ""


def limit_keys_problem(keys: Sequence[object]) -> str:
    """What is wrong with the keys of an item; empty when all is well."""
    if len(keys) > MAX_LIMIT_KEYS:
        return f"it names {len(keys):,} limit keys, {MAX_LIMIT_KEYS} are possible"
    size = sum(len(key.encode(errors="replace")) for key in keys if isinstance(key, str))
    long = f"its limit keys have {size:,} bytes together, {_MAX_LANE_BYTES:,} are possible"
    return "; ".join(filter(None, map(limit_key_problem, keys))) or (long if size > _MAX_LANE_BYTES else "")


_SOURCE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_NOT_SOURCE_NAMES = ("items", "results")


def source_name_problem(name: str) -> str:
    """Why a source can't be called so; "" when it can. Names stand beside ids of versions, and as tables in SQL."""
    if not _SOURCE_NAME.fullmatch(name):
        return (
            f"{name[:120]!r} is no name of a source: a letter, then letters, digits, `.`, `_`, `-`, at most 100 in all"
        )
    if name.lower() in _NOT_SOURCE_NAMES or name.startswith("source-"):
        return f"no source may be called {name!r}: that means something else already"
    return ""


MICROS = 1_000_000
"""Money is counted in millionths of a dollar."""


def event_types_problem(types: Iterable[str]) -> str:
    """Why no event has such a type; "" when some may."""
    unknown = next((one for one in types if one not in EVENT_TYPES), None)
    return "" if unknown is None else f"no event type {unknown!r}: one of {', '.join(EVENT_TYPES)}"


def dollars(micros: int) -> str:
    """`$5.25`; at least two decimals, and as many more as there are."""
    sign = "-" if micros < 0 else ""
    whole, part = divmod(abs(micros), MICROS)
    decimals = f"{part:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{decimals}"


def counted(amount: int, noun: str) -> str:
    """`1 document`, `2,000 documents`."""
    return f"{amount:,} {noun}" + ("" if amount == 1 else "s")


def numbers_there_are(amount: int, noun: str) -> str:
    """What a person may name instead who named an item or stage that there is not; they are numbered from 0."""
    if amount == 1:
        return f"its only {noun} is 0"
    return f"its {noun}s are 0 to {amount - 1}" if amount else f"it has no {noun}s"
