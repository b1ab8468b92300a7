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
    "MAX_LIMIT_KEYS",
    "Granularity",
    "lane_of",
    "limit_key_problem",
    "limit_keys_problem",
]

Granularity = Literal["sentence", "paragraph"]
"""What a segment of a document is."""

GRANULARITIES: tuple[Granularity, ...] = get_args(Granularity)
DEFAULT_GRANULARITY: Granularity = "sentence"

FAILURE_KINDS = (
    *("item", "worker_lost", "timeout", "throttled", "provider", "invalid_result", "budget", "refused"),
    *("cancelled", "unknown", "unconfirmed", "unavailable"),
)
"""Kinds of failure that rules may name. A processor may use words of its own; only rules without kinds take those."""

EVENT_TYPES = (
    *("run.created", "run.state", "run.updated", "stage.state", "stage.updated", "stage.failing"),
    *("gate.approved", "gate.rejected"),
    *("budget.held", "budget.freed", "budget.overrun"),
    *("limit.closed", "limit.probing", "limit.ramping", "limit.open"),
    *("item.retry", "item.failed", "item.deferred", "item.heal", "item.healed", "item.claimed", "item.confirmed"),
    *("items.action", "items.action_done"),
    *("lease.lost", "report.refused"),
)
"""What the events of a run may tell: a test holds that the scheduler writes no others."""

MAX_LIMIT_KEYS = 8
_MAX_KEY_CHARACTERS = 200
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
    return "; ".join(filter(None, map(limit_key_problem, keys)))
