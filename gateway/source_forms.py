"""The form that registers any source: plain fields that say what the files are, then the files, streamed.

The planner is told what a source is before its first byte, so a field that comes after a file is refused: nothing is
spooled here that it could wait in. A form of documents or plain items needs no fields, as ever. What is wrong with the
fields is told all at once, when the first file begins, and nothing is sent on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.bodies import flag_of
from gateway.forms import FILE_FIELDS, Part, UploadForm
from penstock.runtime.errors import InvalidInput
from penstock.runtime.paging import whole_number
from penstock.runtime.plain_text import plain_text
from penstock.v1 import planner_pb2, sources_pb2

__all__ = ["FORM_FIELDS", "KINDS", "SourceForm", "bad_options", "kind_of"]

KINDS = ("documents", "items", "catalog", "table", "tasks")
FORMATS = ("jsonl", "csv", "tsv", "parquet", "json")
TABLES = ("catalog", "table")
MAX_QUERY_CHARACTERS = 60_000
LISTS = ("key", "sort")

_ONLY: Mapping[str, tuple[str, ...]] = {
    "format": ("catalog",),
    "key": TABLES,
    "group": TABLES,
    "sort": TABLES,
    "skip_bad": TABLES,
    "table": ("table",),
    "query": ("table",),
    "each_task": ("tasks",),
    "batch_size": ("tasks",),
}
"""The kinds that a field says anything of."""

_TEXT = {"type": "string"}
FORM_FIELDS: dict[str, Any] = {
    "name": {**_TEXT, "description": "The source's name. Under one that exists this is its next version."},
    "kind": {**_TEXT, "enum": list(KINDS), "description": "Absent: documents of files and zip_file, items of items."},
    "format": {**_TEXT, "enum": list(FORMATS), "description": "Of a catalog; absent: by name and content."},
    "key": {**_TEXT, "description": "Columns by commas, or `hash` for a hash of the row; absent: guessed."},
    "group": {**_TEXT, "description": "A column, `-` for none; absent: guessed."},
    "sort": {**_TEXT, "description": "Columns of the default order, by commas."},
    "skip_bad": {"type": "boolean", "description": "Leave out rows that can't be read, and tell them."},
    "table": {**_TEXT, "description": "A table of the database file that is sent, or"},
    "query": {**_TEXT, "description": "one SELECT over it."},
    "each_task": {"type": "boolean", "description": "An item a task of a task file; else an item a batch."},
    "batch_size": {"type": "integer", "description": "Of a task file without sections, 1-50."},
}


def kind_of(word: str) -> planner_pb2.SourceKind.ValueType:
    """The number of one of KINDS; of no word that of none."""
    return planner_pb2.SourceKind.Value(f"SOURCE_KIND_{word.upper()}" if word else "SOURCE_KIND_UNSPECIFIED")


def bad_options(kind: str, given: Mapping[str, object]) -> list[str]:
    """What is said that has no meaning for the kind."""
    return [
        f"{name} is for kind {' or '.join(_ONLY[name])}, and this is {kind}"
        for name, value in given.items()
        if value and kind not in _ONLY.get(name, KINDS)
    ]


@dataclass
class SourceForm(UploadForm):
    """`actor`: who sends it."""

    actor: str = ""
    lists: dict[str, list[str]] = field(default_factory=dict)

    def _field(self, name: str, text: str) -> None:
        if name == "granularity":
            self.keep(name, text)
            return
        if name not in FORM_FIELDS:
            known = ", ".join((*FORM_FIELDS, *FILE_FIELDS))
            raise InvalidInput(f"the form has a field {name[:80]!r}; it takes {known}", code="bad_form")
        if not text:
            return
        if self._kind:
            raise InvalidInput(f"field {name!r} comes after a file: send the fields first", code="bad_form")
        if name in LISTS:
            self.lists.setdefault(name, []).extend(one.strip() for one in text.split(","))
        elif name in self.values:
            raise InvalidInput(f"field {name!r} is given twice", code="bad_form")
        else:
            self.values[name] = plain_text(text, name, most=MAX_QUERY_CHARACTERS)

    def _header(self, files: str) -> Part.Header:
        usual = "items" if files == "items" else "documents"
        values = self.values
        kind = values.get("kind", usual)
        problems = []
        if kind not in KINDS:
            raise InvalidInput(f"kind is {kind[:80]!r}: one of {', '.join(KINDS)}", code="bad_kind")
        if kind == "items" and files == "zip_file":
            problems.append("items come as JSON lines in the field items or files")
        elif kind != "items" and files == "items":
            problems.append(f"the field items is for kind items; a source of kind {kind} comes in files")
        elif files == "zip_file" and kind != "documents":
            problems.append(f"zip_file is for kind documents; a source of kind {kind} comes in files")
        problems += bad_options(kind, {**values, **self.lists})
        if (form := values.get("format", "")) and form not in FORMATS:
            problems.append(f"format is {form[:80]!r}: one of {', '.join(FORMATS)}")
        skip_bad, each_task = self._truth("skip_bad", problems), self._truth("each_task", problems)
        batch_size = whole_number(values.get("batch_size", "0"), most=1_000)
        if batch_size is None:
            batch_size = 0
            problems.append(f"batch_size is {values['batch_size'][:80]!r}: a whole number, 1-50")
        if problems:
            raise InvalidInput("; ".join(problems), code="bad_form")
        header = Part.Header(
            kind=kind_of(kind),
            zip=files == "zip_file",
            request_id=self.request_id,
            name=values.get("name", ""),
            actor=self.actor,
            origin_table=values.get("table", ""),
            origin_query=values.get("query", ""),
        )
        if kind in TABLES:
            header.table.CopyFrom(
                sources_pb2.TableOptions(
                    format=form,
                    key=self.lists.get("key", ()),
                    group=values.get("group", ""),
                    sort=self.lists.get("sort", ()),
                    skip_bad=skip_bad,
                )
            )
        if kind == "tasks":
            header.tasks.CopyFrom(sources_pb2.TaskOptions(each_task=each_task, batch_size=batch_size))
        return header

    def _truth(self, name: str, problems: list[str]) -> bool:
        said = flag_of(self.values.get(name, "false"))
        if said is None:
            problems.append(f"{name} is {self.values[name][:80]!r}: true (or 1) or false (or 0)")
        return said or False
