"""How the reading of a table says no: one error for all that is wrong, with places.

`Problems` keeps the first ten and counts the rest. `of_duckdb` puts DuckDB's own errors into our words: where the
disk or the memory is at fault the table is not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from penstock.runtime.disk import disk_full
from penstock.runtime.errors import InvalidInput, PenstockError, TooLarge, Unavailable
from planner.domain.rows import MOST_OFFENDERS
from planner.tables.wanted import Skipped

__all__ = ["Problems", "count_of", "first_line", "of_duckdb", "refused", "short", "together", "too_large"]

_TOLD_CHARACTERS = 60
_PATH = re.compile(r""" ?(["'])/[^"']*\1""")


@dataclass
class Problems:
    first: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, problem: str) -> None:
        self.count += 1
        if len(self.first) < MOST_OFFENDERS:
            self.first.append(problem)

    @property
    def told(self) -> str:
        more = self.count - len(self.first)
        return "; ".join(self.first) + (f"; and {more:,} more" if more else "")

    def skipped(self) -> Skipped:
        return Skipped(self.count, tuple(self.first))


def refused(what: str, problems: Problems | Sequence[str], *, code: str, hint: str = "") -> InvalidInput:
    """`what` begins the sentence: `the rows are refused`."""
    if not isinstance(problems, Problems):
        problems = Problems(list(problems)[:MOST_OFFENDERS], len(problems))
    return InvalidInput(f"{what}: {problems.told}{hint}", code=code)


def together(refusals: Sequence[InvalidInput]) -> InvalidInput:
    """Several as one, whose code is the first one's; `codes` has all."""
    if len(refusals) == 1:
        return refusals[0]
    codes = ",".join(dict.fromkeys(one.code for one in refusals))
    return InvalidInput("; besides, ".join(one.message for one in refusals), code=refusals[0].code, codes=codes)


def count_of(count: int, one: str, many: str = "") -> str:
    """`1 row`, `1,000 rows`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def short(value: object) -> str:
    """For a message."""
    text = repr(value)
    return text if len(text) <= _TOLD_CHARACTERS else f"{text[: _TOLD_CHARACTERS - 3]}…"


def first_line(error: object) -> str:
    """What a database says, without the paths of this machine: they are nothing for who sent a file."""
    return _PATH.sub("", (str(error).strip().splitlines() or ["no reason given"])[0])


def of_duckdb(error: Exception, name: str) -> PenstockError:
    """What stops the reading of a table, `name`, for good."""
    import duckdb

    first = first_line(error)
    if isinstance(error, duckdb.OutOfMemoryException):
        return Unavailable(f"{name} needs more memory than the planner has for it: {first}", code="table_memory")
    if "No space left" in first or "disk quota" in first.lower():
        return disk_full("the planner's uploads")
    if "File too large" in first:
        return too_large()
    return InvalidInput(f"{name} can't be read: {first}", code="table_unreadable")


def too_large() -> TooLarge:
    return TooLarge("the table gives more bytes than a table may have; ask for less of it", code="too_large")
