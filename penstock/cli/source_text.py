"""How sources and their rows look on a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from penstock.cli import show
from penstock.words import counted

if TYPE_CHECKING:
    from penstock.client.source_views import (
        GroupCountView,
        NoticeView,
        RowPageView,
        RowResultView,
        RowView,
        SourceDescriptionView,
        SourceView,
    )

__all__ = [
    "change_text",
    "print_groups",
    "print_notices",
    "print_rows",
    "print_source",
    "print_versions",
    "result_lines",
    "size_text",
    "source_line",
]

COLUMNS_SHOWN = 8
RESULT_COLUMNS = ("state", "confidence", "cost", "seconds", "run", "ended")
OF_RESULT, OF_VALUE = "result.", "value."
GROUPS_SHOWN = 20
FREQUENT_SHOWN = 3


def source_line(source: SourceView) -> str:
    """Name, version, rows: the last line of what made it."""
    noun = "row" if source["columns"] else {"documents": "document"}.get(source["kind"], "item")
    named = f"{source['name']} version {source['version']}" if source["name"] else source["source_id"]
    return f"{named}: {counted(source['item_count'], noun)}"


def size_text(size: int) -> str:
    """`512 B`, `1.5 MB`: as exact as it is worth."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def print_notices(notices: Sequence[NoticeView], word: str = "note") -> None:
    for notice in notices:
        place = f"line {notice['line']}: " if notice["line"] else ""
        show.say(f"{word}: {place}{show.text(notice['message'])}")


def change_text(source: SourceView) -> str:
    """What the version before had not; empty for a first one."""
    change = source["change"]
    if change is None:
        return ""
    return f"{change['added_count']:,} added, {change['changed_count']:,} changed, {change['removed_count']:,} removed"


def print_source(description: SourceDescriptionView, versions: Sequence[SourceView]) -> None:
    source = description["source"]
    show.say(f"Source {source_line(source)}")
    facts = [
        ("kind", source["kind"]),
        ("id", source["source_id"]),
        ("key", ", ".join(source["key"]) or ("a hash of the row" if source["columns"] else "")),
        ("group", source["group"]),
        ("order", ", ".join(source["sort"])),
        ("size", size_text(source["size_bytes"])),
        ("created", source["create_time"]),
    ]
    show.print_facts(facts)
    if description["columns"]:
        show.say()
        show.print_table(
            ("column", "kind", "null", "distinct", "least", "most", "frequent"),
            [
                (
                    column["name"],
                    column["kind"],
                    column["null_count"],
                    f"{column['distinct_count']:,}" + ("" if column["distinct_exact"] else " about"),
                    show.shortened(column["least"], 24),
                    show.shortened(column["most"], 24),
                    ", ".join(
                        f"{show.shortened(one['value'], 24)} ({one['count']:,})"
                        for one in column["frequent"][:FREQUENT_SHOWN]
                    ),
                )
                for column in description["columns"]
            ],
        )
    if versions:
        show.say()
        print_versions(versions)
    if source["notices"]:
        show.say()
        print_notices(source["notices"])


def print_versions(versions: Sequence[SourceView]) -> None:
    show.print_table(
        ("version", "rows", "created", "id", "change"),
        [
            (one["version"], one["item_count"], one["create_time"], one["source_id"], change_text(one))
            for one in versions
        ],
    )


def print_rows(page: RowPageView, source: SourceView, *, chosen: Sequence[str], skip: int, plan: bool) -> None:
    """`chosen`: names of the columns to show; none: of a source the first ones, without those that key and group show
    already, of a plan none, since each row tells why it is there."""
    shown_already = {source["group"], *(source["key"] if len(source["key"]) == 1 else ())}
    others = [name for column in source["columns"] if (name := column["name"]) not in shown_already]
    named = any(name.startswith(OF_RESULT) for name in chosen)
    told = RESULT_COLUMNS if page["results"] is not None and not named else ()
    usual = () if plan else others[: COLUMNS_SHOWN - len(told)]
    names = list(chosen or usual)
    last = ("why",) if plan else ()
    # A column of the source may have the name of one of a result.
    results = (f"{OF_RESULT}{name}" if name in names else name for name in told)
    show.print_table(
        ("place" if plan else "row", "key", "group", *names, *results, *last),
        [
            (
                row["position"],
                row["key"],
                row["group"],
                *(_named(row, name, results=page["results"] is not None) for name in names),
                *(_result_cells(row["result"]) if told else ()),
                *([row["why"]] if plan else ()),
            )
            for row in page["rows"]
        ],
    )
    show.say()
    shown = f"{skip + 1:,}-{skip + len(page['rows']):,} of " if page["rows"] else "none of "
    show.say(f"{shown}{counted(page['total'], 'item' if plan else 'row')}")
    if not chosen and not plan and (left := others[len(usual) :]):
        show.say(f"{len(left)} more columns by --columns: {', '.join(left[:10])}{', …' if len(left) > 10 else ''}")


def _named(row: RowView, name: str, *, results: bool) -> object:
    """The cell of a column that was named. Where results are asked for, `result.…` is of these."""
    if not (results and name.startswith(OF_RESULT)):
        return _cell(row["values"].get(name))
    result: Mapping[str, object] = {**row["result"]} if row["result"] is not None else {}
    field = name.removeprefix(OF_RESULT)
    if field.startswith(OF_VALUE):
        value = result.get("value")
        return _cell(value.get(field.removeprefix(OF_VALUE)) if isinstance(value, dict) else None)
    return _cell(result.get("run_number" if field == "run" else field))


def _result_cells(result: RowResultView | None) -> Sequence[object]:
    """By RESULT_COLUMNS."""
    if result is None:
        return ("",) * len(RESULT_COLUMNS)
    from penstock.words import dollars

    confidence = result["confidence"]
    return (
        result["state"],
        "" if confidence is None else f"{confidence:g}",
        dollars(result["cost_micros"]) if result["cost_micros"] else "",
        "" if result["seconds"] is None else f"{result['seconds']:.3g}",
        result["run_number"],
        result["end_time"],
    )


def result_lines(page: RowPageView) -> list[str]:
    """Up to when the results are known, and of all that match how many have which."""
    results = page["results"]
    if results is None:
        return []
    lines = []
    if results["states"]:
        counts = ", ".join(f"{one['count']:,} {one['state'] or 'without one'}" for one in results["states"])
        lines.append(f"results of {results['processor']}: {counts}")
    if results["problem"]:
        known = f"as of {results['read_time']}" if results["read_time"] else "as far as they were copied"
        lines.append(f"results of {results['processor']} are told {known}: {show.text(results['problem'])}")
    return lines


def _cell(value: object) -> object:
    if isinstance(value, (dict, list, bool)):
        return json.dumps(value, ensure_ascii=False)
    return value


def print_groups(groups: Sequence[GroupCountView], more: int, *, most: int = GROUPS_SHOWN) -> None:
    show.print_table(("group", "items"), [(one["group"], f"{one['count']:,}") for one in groups[:most]])
    if (left := len(groups) - most + more) > 0:
        show.say(f"… and {left:,} more groups")
