"""What HTTP tells of statistics and rows otherwise than `penstock.client.source_views` does.

A row's values are JSON already: they go into the answer as they are, never parsed and written again.
"""

from __future__ import annotations

import orjson
from starlette.responses import Response
from typing_extensions import TypedDict

from penstock.client.source_views import ColumnStatisticsView, row_page_view, statistics_views
from penstock.v1 import planner_pb2, sources_pb2

__all__ = ["StatisticsView", "row_page", "statistics_view"]


class StatisticsView(TypedDict):
    source_id: str
    name: str | None
    item_count: int
    columns: list[ColumnStatisticsView]


def statistics_view(described: planner_pb2.SourceDescription) -> StatisticsView:
    return {
        "source_id": described.source.source_id,
        "name": described.source.name or None,
        "item_count": described.source.item_count,
        "columns": statistics_views(described),
    }


def row_page(page: sources_pb2.RowPage) -> Response:
    """The answer itself, shaped as `RowPageView`."""
    view = row_page_view(page, json_of=orjson.Fragment)
    return Response(orjson.dumps(view), media_type="application/json")
