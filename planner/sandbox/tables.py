"""What a query sees: the columns of a snapshot under the names that its users know.

Names are as odd as those who gave them liked; SQL has rules. So an empty name becomes `column3` (its place, from 1),
a NUL character a space, and of names that differ only in the case of ASCII letters, which are one name to SQL, the
later ones get `_1`, `_2`, … `key` and `group` are there too, unless a column has that name. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from planner.domain.schema import Schema

__all__ = ["Table", "key_columns"]


@dataclass(frozen=True)
class Table:
    """A Parquet file, and (name as users see it, column of the file) of its columns."""

    file: Path
    columns: Sequence[tuple[str, str]]

    @classmethod
    def of(cls, file: Path, schema: Schema) -> Self:
        """The snapshot of a source."""
        columns = [(column.name, f"f{place}") for place, column in enumerate(schema.columns)]
        taken = {_fold(name) for name, _ in columns}
        return cls(file, [*columns, *((name, name) for name in ("key", "group") if name not in taken)])

    def shown(self) -> list[tuple[str, str]]:
        """The columns with names that SQL takes and tells apart."""
        given = {_fold(name) for name, _ in self.columns}
        shown: dict[str, tuple[str, str]] = {}
        for place, (name, column) in enumerate(self.columns):
            plain = chosen = name.replace("\0", " ") or f"column{place + 1}"
            number = 0
            while _fold(chosen) in shown or (chosen != name and _fold(chosen) in given):
                number += 1
                chosen = f"{plain}_{number}"
            shown[_fold(chosen)] = (chosen, column)
        return list(shown.values())


def key_columns(schema: Schema) -> Sequence[str]:
    """The names by which a result may give keys, the best first: `key`, and the column that is the key by itself.

    A source may have a column `key` that is not its key. Then that name means the column, and not the items' keys.
    """
    alone = schema.key if len(schema.key) == 1 else ()
    if any(_fold(column.name) == "key" for column in schema.columns):
        return alone
    return ("key", *alone)


def _fold(name: str) -> str:
    return "".join(character.lower() if character.isascii() else character for character in name)
