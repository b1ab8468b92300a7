"""What a person should know of a plan before it starts, in one shape wherever it is found.

A selection that finds something odd, a preview, a sample, a budget, and what changed since: each makes these, and a
plan's warnings are a list of them. Pure; what becomes of one (told, asked about, refused) is for whoever has it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["Objection", "many_items", "paid"]


@dataclass(frozen=True)
class Objection:
    """A stable code, and a sentence for people."""

    code: str
    message: str

    def kept(self) -> dict[str, str]:
        """As a plan's row keeps it."""
        return asdict(self)


def many_items(count: int, most: int) -> Objection:
    """Of a plan with more items than start without a question."""
    return Objection("many_items", f"{count:,} items are more than {most:,}: confirm to start it")


def paid(processor: str) -> Objection:
    """Of a plan whose processor costs money."""
    return Objection("paid", f"{processor} costs money: confirm to start it")
