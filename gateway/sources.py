"""`/api/v1/sources`: register, list, look into, refresh, remove.

A source is named in a path by its name or by the id of one of its versions; a name means its latest version. Uploads
are read as streams; rows are filtered, sorted, paged and counted by the planner, never here.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from pydantic import Field
from starlette.responses import Response
from typing_extensions import TypedDict

from gateway.batch import DOCUMENT_FIELDS, FILE, multipart_body, upload_source
from gateway.bodies import Body, Flag, Token, Truth, Whole, resource_router
from gateway.source_forms import FORM_FIELDS, SourceForm, bad_options
from gateway.table_views import StatisticsView, row_page, statistics_view
from gateway.wiring import Wired
from penstock.client.source_views import RowPageView, SourceView, source_view
from penstock.runtime.errors import InvalidInput
from penstock.runtime.plain_text import MAX_CHARACTERS

__all__ = ["Filter", "Groups", "OrderBy", "PageSize", "ResultOf", "Search", "Skip", "router"]

router = resource_router()

MAX_PAGE = 1_000
MAX_FILTER = 10_000
Source = Annotated[str, Path(max_length=MAX_CHARACTERS, description="A name, or the id of a version.")]
Filter = Annotated[
    str, Query(max_length=MAX_FILTER, description='As brand = "Razer" AND (price < 50 OR NOT variant:black).')
]
Search = Annotated[str, Query(max_length=MAX_CHARACTERS, description="A text that some column holds.")]
OrderBy = Annotated[str, Query(max_length=MAX_FILTER, description="Columns by commas, with ` desc` where wanted.")]
Skip = Annotated[int, Query(ge=0, le=2**62, description="So many of the rows that match come before the page.")]
PageSize = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Groups = Annotated[Flag, Query(description="Counts per group, too, of all rows that match.")]
ResultOf = Annotated[
    str,
    Query(
        max_length=MAX_CHARACTERS,
        description="A processor: its latest results stand beside the rows, and `result.state` and so on are fields.",
    ),
]
Column = Annotated[str, Field(min_length=1, max_length=1_000)]


class AddBody(Body):
    """A catalog or task file by server_path; a table by database, or by the server_path of a database file."""

    name: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    kind: Literal["catalog", "table", "tasks"] = "catalog"
    server_path: str = Field(
        "", max_length=4_096, description="Inside the folders of the setting planner.source_folders."
    )
    database: str = Field("", max_length=MAX_CHARACTERS, description="A name of the setting planner.databases.")
    table: str = Field("", max_length=1_000)
    query: str = Field("", max_length=60_000, description="One SELECT, instead of a table.")
    format: Literal["", "jsonl", "csv", "tsv", "parquet", "json"] = ""
    key: list[Column] = Field(default_factory=list, max_length=100, description="None: guessed.")
    group: str = Field("", max_length=1_000, description="A column, `-` for none; absent: guessed.")
    sort: list[Column] = Field(default_factory=list, max_length=100)
    skip_bad: Truth = False
    each_task: Truth = False
    batch_size: Whole = 0
    request_id: str = Field("", max_length=MAX_CHARACTERS)

    def said(self) -> dict[str, Any]:
        """What may have no meaning for the kind."""
        return self.model_dump(exclude={"name", "kind", "server_path", "database", "request_id"})


class RefreshBody(Body):
    request_id: str = Field("", max_length=MAX_CHARACTERS)


class SourcePage(TypedDict):
    sources: list[SourceView]
    next_page_token: str | None


class VersionPage(TypedDict):
    """The latest first."""

    versions: list[SourceView]
    next_page_token: str | None


class Removed(TypedDict):
    """draft_count: of plans that nobody had kept, which went with it."""

    name: str
    version_count: int
    draft_count: int


SOURCE_BODY = multipart_body(
    "The plain fields first, then one of files (documents, a catalog, a database file, a task file), zip_file "
    "(documents) and items (plain items).",
    {
        **FORM_FIELDS,
        **DOCUMENT_FIELDS,
        "items": {**FILE, "description": "JSON lines of key, and optionally group and payload."},
    },
)


@router.post("/sources", tags=["sources"], openapi_extra=SOURCE_BODY)
async def create_source(request: Request, parts: Wired) -> SourceView:
    """Registers a source from an upload; the same content is the same version. Refused whole, or kept."""
    accepts = ("files", "zip_file", "items")
    form = partial(SourceForm, actor=parts.client.connection.actor)
    source, _ = await upload_source(request, parts, accepts=accepts, form=form)
    return source_view(source)


@router.post("/sources/add", tags=["sources"])
async def add_source(body: AddBody, parts: Wired) -> SourceView:
    """Registers what the planner can read by itself, and reads it. 409 for a name that is taken."""
    if problems := bad_options(body.kind, body.said()):
        raise InvalidInput("; ".join(problems), code="bad_source")
    return source_view(await parts.client.sources.add(**body.model_dump()))


@router.get("/sources", tags=["sources"])
async def list_sources(
    parts: Wired,
    search: Annotated[str, Query(max_length=MAX_CHARACTERS, description="A part of a name.")] = "",
    kind: Literal["documents", "items", "catalog", "table", "tasks"] | None = None,
    page_size: Annotated[int, Query(ge=1, le=200)] = 50,
    page_token: Token = "",
) -> SourcePage:
    """Sources that have a name, by name, each as its latest version."""
    page = await parts.client.sources.list_page(
        search=search, kind=kind or "", page_size=page_size, page_token=page_token
    )
    return {
        "sources": [source_view(source) for source in page.sources],
        "next_page_token": page.next_page_token or None,
    }


@router.get("/sources/{source}", tags=["sources"])
async def get_source(source: Source, parts: Wired) -> SourceView:
    return source_view(await parts.client.sources.get(source))


@router.delete("/sources/{source}", tags=["sources"])
async def delete_source(
    source: Source,
    parts: Wired,
    validate_only: Annotated[Flag, Query(description="Refuse what would be refused, and remove nothing.")] = False,
) -> Removed:
    """By its name, with all versions and drafts; 409 names the plans that need it."""
    gone = await parts.client.sources.remove(source, validate_only=validate_only)
    return {"name": source, "version_count": gone.version_count, "draft_count": gone.draft_count}


@router.post("/sources/{source}/refresh", tags=["sources"])
async def refresh_source(source: Source, parts: Wired, body: RefreshBody = RefreshBody()) -> SourceView:  # noqa: B008
    """Reads it again from where it was added: a new version and what changed, or the same one where nothing did."""
    return source_view(await parts.client.sources.refresh(source, request_id=body.request_id))


@router.get("/sources/{source}/versions", tags=["sources"])
async def source_versions(
    source: Source, parts: Wired, page_size: Annotated[int, Query(ge=1, le=200)] = 50, page_token: Token = ""
) -> VersionPage:
    """The versions of a name."""
    page = await parts.client.sources.versions_page(source, page_size=page_size, page_token=page_token)
    return {
        "versions": [source_view(one) for one in page.sources],
        "next_page_token": page.next_page_token or None,
    }


@router.get("/sources/{source}/statistics", tags=["sources"])
async def source_statistics(source: Source, parts: Wired) -> StatisticsView:
    """What each column holds; no columns of a source that has none."""
    return statistics_view(await parts.client.sources.describe(source))


@router.get("/sources/{source}/rows", tags=["sources"], response_model=RowPageView)
async def source_rows(
    source: Source,
    parts: Wired,
    filter: Filter = "",  # noqa: A002
    search: Search = "",
    order_by: OrderBy = "",
    skip: Skip = 0,
    page_size: PageSize = 100,
    groups: Groups = False,
    result_of: ResultOf = "",
) -> Response:
    """Rows of a catalog or table for a grid. Long texts are cut."""
    page = await parts.client.sources.rows(
        source,
        filter=filter,
        search=search,
        order_by=order_by,
        skip=skip,
        page_size=page_size,
        with_groups=groups,
        result_of=result_of,
    )
    return row_page(page)
