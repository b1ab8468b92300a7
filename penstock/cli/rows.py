"""What `sources rows` and `plans order` share: the options of a question about rows, and how its answer looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli import show
from penstock.cli.selecting import columns_of
from penstock.cli.source_text import print_groups, print_rows, result_lines
from penstock.words import counted

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.client.source_views import RowPageView, SourceView
    from penstock.v1 import planner_pb2

__all__ = [
    "ColumnsOption",
    "GroupsOption",
    "OrderByOption",
    "ResultOfOption",
    "RowsFilterOption",
    "SearchOption",
    "ShownOption",
    "SkipOption",
    "print_page",
    "print_whole",
    "question",
]

RowsFilterOption = Annotated[
    str, typer.Option("--filter", metavar="WORDS", help="As 'brand = \"Razer\" AND (price < 50 OR NOT variant:black)'.")
]
SearchOption = Annotated[str, typer.Option("--search", help="A text that some column holds.")]
OrderByOption = Annotated[
    str,
    typer.Option("--order-by", metavar="COL[ desc][,…]", help="Columns (default: the order of the source or plan)."),
]
SkipOption = Annotated[int, typer.Option("--skip", min=0, help="Rows to pass over.")]
ShownOption = Annotated[int, typer.Option("--limit", min=1, max=1000, help="Rows to show.")]
ColumnsOption = Annotated[
    str,
    typer.Option("--columns", metavar="COL[,COL]", help="Columns to show; with --result-of also result.value.NAME."),
]
GroupsOption = Annotated[bool, typer.Option("--groups", help="Also count all that match per group.")]
ResultOfOption = Annotated[
    str,
    typer.Option(
        "--result-of",
        metavar="P",
        help="Latest results of this processor beside the rows; filters take result.state, result.confidence, ….",
    ),
]


def question(
    *,
    filter: str,  # noqa: A002
    search: str,
    order_by: str,
    skip: int,
    limit: int,
    groups: bool,
    result_of: str,
) -> dict[str, Any]:
    """As `rows` of the client takes it, of sources and of plans."""
    return {
        "filter": filter,
        "search": search,
        "order_by": order_by,
        "skip": skip,
        "page_size": limit,
        "with_groups": groups,
        "result_of": result_of,
    }


def print_page(page: RowPageView, source: SourceView, *, columns: str, skip: int, groups: bool, plan: bool) -> None:
    """plan: rows of a plan's order, each with why it is there. Raises InvalidInput for a column that is none."""
    told = page["results"]["columns"] if page["results"] is not None else []
    chosen = _known(columns_of(columns), [column["name"] for column in (*source["columns"], *told)])
    print_rows(page, source, chosen=chosen, skip=skip, plan=plan)
    for line in result_lines(page):
        show.say(line)
    if groups:
        show.say()
        print_groups(page["groups"], page["more_groups"], most=1000)


async def print_whole(
    client: AsyncClient, plan: planner_pb2.Plan, asked: Mapping[str, Any], *, columns: str, as_json: bool
) -> None:
    """The order of a plan that took its source whole, a page of it; `asked`: of `question`. Raises InvalidInput for
    options that want columns."""
    from penstock.client.plan_views import plan_item_view
    from penstock.runtime.errors import InvalidInput

    skip, limit = asked["skip"], asked["page_size"]
    if columns or any(value for name, value in asked.items() if name not in ("skip", "page_size")):
        raise InvalidInput(
            "this plan takes its source whole, whose items have no columns: its order takes --skip and --limit",
            code="source_without_columns",
        )
    page = await client.plans.items_page(plan.plan_id, after_seq=skip - 1, limit=limit)
    if as_json:
        show.print_json({"items": [plan_item_view(item) for item in page.items], "total": plan.item_count})
        return
    show.print_table(("place", "key", "group"), [(item.seq, item.key, item.group) for item in page.items])
    show.say()
    shown = f"{skip + 1:,}-{skip + len(page.items):,} of " if page.items else "none of "
    show.say(f"{shown}{counted(plan.item_count, 'item')}")


def _known(chosen: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    from penstock.filter_places import nearest
    from penstock.runtime.errors import InvalidInput

    for name in chosen:
        if name not in names:
            raise InvalidInput(f"--columns: there is no column {name!r}; {nearest(name, names)}", code="no_such_column")
    return chosen
