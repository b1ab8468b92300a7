"""What an operator may say about a limit: everything wrong with it at once, and what stands for what was left out.

Pure; nothing fails here: `problems` answers sentences.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from penstock.words import limit_key_problem
from scheduler.domain.limits import REQUESTS, RateState

__all__ = ["MAX_RATES", "LimitSettings", "key_problem", "problems", "rate_of"]

MAX_RATES = 8
MAX_CONCURRENCY = 1_000_000
MAX_PER_MINUTE = 1e12
MAX_COOLDOWN_SECONDS = 24 * 3600.0
BURST_SHARE = 0.1
_DIMENSION = re.compile(r"[a-z][a-z0-9_]{0,39}")


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """As it was said; a rate's burst or estimate of 0 and a cooldown of 0 stand for the default."""

    key: str
    concurrency: int | None
    rates: Sequence[RateState]
    adaptive: bool
    cooldown_seconds: float


def key_problem(key: str) -> str:
    """What is wrong with the key of a limit, or with a pattern; empty when all is well."""
    if key.endswith("*"):
        plain = limit_key_problem(key[:-1] + "x")
        return plain and f"pattern {key!r} is not the beginning of a limit key with * after it, e.g. domain:*"
    return limit_key_problem(key)


def problems(settings: LimitSettings) -> list[str]:
    """Everything that is wrong, a sentence each."""
    found = [key_problem(settings.key)]
    concurrency = settings.concurrency
    if concurrency is not None and not 1 <= concurrency <= MAX_CONCURRENCY:
        hint = "; to let nothing through, close the key" if concurrency == 0 else ""
        found.append(f"concurrency {concurrency:,} is not within 1 to {MAX_CONCURRENCY:,}{hint}")
    if not 0 <= settings.cooldown_seconds <= MAX_COOLDOWN_SECONDS:
        found.append(f"cooldown_seconds {settings.cooldown_seconds:g} is not within 0 to {MAX_COOLDOWN_SECONDS:g}")
    if len(settings.rates) > MAX_RATES:
        found.append(f"{len(settings.rates):,} rates; at most {MAX_RATES} are possible")
    names = [rate.dimension for rate in settings.rates]
    found += [f"rate {name!r} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    for rate in settings.rates[:MAX_RATES]:
        found += _rate_problems(rate)
    return [problem for problem in found if problem]


def _rate_problems(rate: RateState) -> list[str]:
    found = []
    if not _DIMENSION.fullmatch(rate.dimension):
        found.append(f"rate dimension {rate.dimension[:60]!r} is not a word of a-z, 0-9 and _, e.g. requests, tokens")
    if not 0 < rate.per_minute <= MAX_PER_MINUTE:
        found.append(f"per_minute {rate.per_minute:g} of {rate.dimension} is not above 0 and up to {MAX_PER_MINUTE:g}")
        return found
    whole = rate_of(rate)
    if not (math.isfinite(rate.burst) and rate.burst >= 0 and whole.burst >= 1):
        found.append(f"burst {rate.burst:g} of {rate.dimension} is not 1 or more (0: the default)")
    elif not 0 <= rate.estimate <= whole.burst:
        found.append(
            f"estimate {rate.estimate:g} of {rate.dimension} is not within 0 and the burst of {whole.burst:g}: an item "
            "that takes more than the burst would wait for ever"
        )
    return found


def rate_of(rate: RateState) -> RateState:
    """The rate with its defaults: a burst of a tenth of a minute, at least 1; an item makes one request, and of
    anything else it may take a tenth of the burst until history tells."""
    burst = rate.burst or max(rate.per_minute * BURST_SHARE, 1.0)
    estimate = rate.estimate or (1.0 if rate.dimension == REQUESTS else max(burst * BURST_SHARE, 1.0))
    return RateState(rate.dimension, rate.per_minute, burst, estimate)
