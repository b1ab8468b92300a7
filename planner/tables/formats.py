"""Which format a file has: what was told, else what its first bytes say, else its name.

Content goes before the name where it leaves no doubt (Parquet's mark, a list of JSON); a name decides between a CSV and
a TSV, and whether an object is a line of many or a file of its own.
"""

from __future__ import annotations

import json

from penstock.databases import database_by_head
from penstock.runtime.errors import InvalidInput
from planner.tables.unpacking import PARQUET, Plain
from planner.tables.wanted import KINDS

__all__ = ["format_of", "refuse_database"]

_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".jsonlines": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def refuse_database(name: str, head: bytes) -> None:
    """Raises InvalidInput for a database that comes as a catalog: its first bytes say it, before the rest is here."""
    if database_by_head(head):
        raise InvalidInput(
            f"{name} is a database; name its kind and the table that is wanted, or a query", code="bad_kind"
        )


def format_of(plain: Plain, head: bytes, told: str) -> str:
    """One of KINDS. `head`: its first bytes. Raises InvalidInput."""
    if told and told not in KINDS:
        raise InvalidInput(f"{told!r} is no kind of table; there are {', '.join(KINDS)}", code="bad_kind")
    if not head.strip():
        raise InvalidInput(f"{plain.name} is empty", code="no_rows")
    refuse_database(plain.name, head)
    is_parquet = head.startswith(PARQUET)
    if is_parquet and plain.zstd:
        raise InvalidInput(f"{plain.name} is Parquet within zstd; send the Parquet file itself", code="bad_kind")
    if is_parquet or told == "parquet":
        if told not in ("", "parquet") or not is_parquet:
            what = "Parquet" if is_parquet else "no Parquet"
            raise InvalidInput(f"{plain.name} is {what}, and {told} was told", code="bad_kind")
        return "parquet"
    if told:
        return told
    named = next((kind for suffix, kind in _BY_SUFFIX.items() if plain.stem.lower().endswith(suffix)), "")
    if named == "parquet":
        raise InvalidInput(f"{plain.name} is no Parquet file, or is cut off", code="table_unreadable")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if named in ("csv", "tsv"):
        return named
    if text[:1] == b"[":
        return "json"
    if text[:1] == b"{":
        return "jsonl" if named == "jsonl" else _lines_or_one(text, named or "jsonl")
    if named:
        return named
    first = text.splitlines()[0]
    if b"\0" in head:
        raise InvalidInput(f"{plain.name} is binary; a table is {', '.join(KINDS)}", code="bad_kind")
    return "tsv" if first.count(b"\t") > first.count(b",") else "csv"


def _lines_or_one(text: bytes, otherwise: str) -> str:
    """Whether what begins with an object is JSON lines, or one object over several lines. `otherwise`: of one line."""
    first, _, rest = text.partition(b"\n")
    if not rest.strip():
        return otherwise
    try:
        json.loads(first)
    except ValueError:
        return "json"
    return "jsonl"
