"""`penstock sources`: register where items come from, look at what is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from penstock.cli import show
from penstock.cli.database_files import database_kind, tables_text
from penstock.cli.options import (
    DataOption,
    JsonOption,
    SourceArgument,
    YesOption,
    carry_out,
    confirmed,
    connected,
)
from penstock.cli.rows import (
    ColumnsOption,
    GroupsOption,
    OrderByOption,
    ResultOfOption,
    RowsFilterOption,
    SearchOption,
    ShownOption,
    SkipOption,
    print_page,
    question,
)
from penstock.cli.selecting import columns_of
from penstock.cli.source_text import (
    change_text,
    print_notices,
    print_source,
    size_text,
    source_line,
)
from penstock.databases import DATABASE_SUFFIXES
from penstock.words import counted, source_name_problem

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.v1 import planner_pb2

__all__ = ["app"]

TASK_SUFFIXES = (".md", ".markdown")
DOCUMENT_SUFFIXES = {".txt", ".md", ".pdf", ".docx", ".html", ".htm"}

app = typer.Typer(no_args_is_help=True, help="Where items come from: register it once, look at it, refresh it.")

Kind = Literal["documents", "items", "catalog", "table", "tasks"]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The source's name.", show_default=False)]


@app.command()
def add(
    name: NameArgument,
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="PATH...", help="Files and folders.", show_default=False)
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option("--kind", help="What it is (default: by the paths).", show_default=False)
    ] = None,
    key: Annotated[
        str, typer.Option("--key", metavar="COL[,COL]|hash", help="Columns of the key (default: guessed).")
    ] = "",
    group: Annotated[
        str, typer.Option("--group", metavar="COL|-", help="Column of the group, - for none (default: guessed).")
    ] = "",
    sort: Annotated[str, typer.Option("--sort", metavar="COL[,COL]", help="Columns of its own order.")] = "",
    format: Annotated[  # noqa: A002
        str, typer.Option("--format", help="jsonl, csv, tsv, parquet or json (default: by name and content).")
    ] = "",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out rows that can't be read, and say so.")
    ] = False,
    table: Annotated[str, typer.Option("--table", metavar="T", help="Of a database: this table.")] = "",
    query: Annotated[str, typer.Option("--query", metavar="SQL", help="Of a database: what one SELECT answers.")] = "",
    server_path: Annotated[
        bool, typer.Option("--server-path", help="PATH is on the server, in a folder that its settings allow.")
    ] = False,
    database: Annotated[
        str, typer.Option("--database", metavar="D", help="A database by its name in the server's settings.")
    ] = "",
    each_task: Annotated[bool, typer.Option("--each-task", help="Of a task file: an item a task.")] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=0, max=50, help="Of a task file without `##`: tasks of an item.")
    ] = 0,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a source: a catalog, a table, a task file, documents or items. The last line: name, version, rows.

    A folder of JSON files is a catalog of many. Under a name that exists an upload is the next version, and the same
    content is the same version. With --server-path or --database the server reads by itself, now and at each refresh.

    Examples:

      penstock sources add mice mice.jsonl --group brand

      penstock sources add orders shop.sqlite --query "SELECT * FROM orders WHERE open"

      penstock sources add todo tasks.md --each-task

      penstock sources add issues /srv/issues.csv.gz --server-path --key repo,number
    """
    given: dict[str, Any] = {
        "--key": key,
        "--group": group,
        "--sort": sort,
        "--format": format,
        "--skip-bad": skip_bad,
        "--table": table,
        "--query": query,
        "--each-task": each_task,
        "--batch-size": batch_size,
    }
    chosen = kind or _guessed(paths or [], given, database=database)
    _check(chosen, paths or [], given, server_path=server_path, database=database, name=name)
    rows: dict[str, Any] = {"key": columns_of(key), "group": group, "sort": columns_of(sort), "skip_bad": skip_bad}

    async def work() -> None:
        from penstock.client.source_views import source_view

        async with connected(data) as client:
            with show.Progress(quiet=as_json) as progress:
                if server_path or database:
                    progress.show(0, "the server reads it")
                    source = await client.sources.add(
                        name,
                        kind=chosen,
                        server_path=(paths or [""])[0] if server_path else "",
                        database=database,
                        table=table,
                        query=query,
                        format=format,
                        each_task=each_task,
                        batch_size=batch_size,
                        **rows,
                    )
                else:
                    source = await _uploaded(client, chosen, name, paths or [], progress, given, rows)
        view = source_view(source)
        if as_json:
            show.print_json(view)
            return
        print_notices(view["notices"])
        if change := change_text(view):
            show.say(f"since the version before: {change}")
        show.say(source_line(view))

    carry_out(work())


async def _uploaded(
    client: AsyncClient,
    kind: str,
    name: str,
    paths: list[str],
    progress: show.Progress,
    given: dict[str, Any],
    rows: dict[str, Any],
) -> planner_pb2.Source:
    def on_bytes(sent: int, total: int) -> None:
        of = f"{size_text(sent)} of {size_text(total)}"
        progress.show(sent / max(total, 1), f"sent {of}" + (", being read" if sent >= total else ""))

    if kind == "documents":
        archive = len(paths) == 1 and paths[0].lower().endswith(".zip")
        return await client.sources.documents(paths, zip=archive, name=name, on_bytes=on_bytes)
    if kind == "items":
        return await client.sources.items(paths[0], name=name)
    if kind == "tasks":
        return await client.sources.tasks(
            paths[0], name=name, each_task=given["--each-task"], batch_size=given["--batch-size"]
        )
    if kind == "table":
        return await client.sources.table(
            paths[0], table=given["--table"], query=given["--query"], name=name, on_bytes=on_bytes, **rows
        )
    return await client.sources.catalog(paths, name=name, format=given["--format"], on_bytes=on_bytes, **rows)


def _guessed(paths: list[str], given: dict[str, Any], *, database: str) -> str:
    suffixes = {Path(path).suffix.lower() for path in paths}
    if database or given["--table"] or given["--query"] or (suffixes and suffixes <= set(DATABASE_SUFFIXES)):
        return "table"
    if len(paths) == 1 and database_kind(paths[0]):
        return "table"
    if given["--each-task"] or given["--batch-size"] or (suffixes and suffixes <= set(TASK_SUFFIXES)):
        return "tasks"
    return "documents" if len(paths) == 1 and _of_documents(Path(paths[0])) else "catalog"


def _of_documents(folder: Path) -> bool:
    """Whether it is a folder, and all that it has are texts for people."""
    found = {file.suffix.lower() for file in folder.rglob("*") if file.is_file()} if folder.is_dir() else set()
    return bool(found) and found <= DOCUMENT_SUFFIXES


_OF_KIND = {
    "catalog": ("--key", "--group", "--sort", "--format", "--skip-bad"),
    "table": ("--key", "--group", "--sort", "--skip-bad", "--table", "--query"),
    "tasks": ("--each-task", "--batch-size"),
}


def _check(
    kind: str, paths: list[str], given: dict[str, Any], *, server_path: bool, database: str, name: str = ""
) -> None:
    """Raises InvalidInput with everything that does not fit together, before anything is sent."""
    from penstock.runtime.errors import InvalidInput

    wrong = [
        f"{option} is not for kind {kind}"
        for option, value in given.items()
        if value and option not in _OF_KIND.get(kind, ())
    ]
    if kind == "table" and bool(given["--table"]) == bool(given["--query"]):
        # A file on the server is none here, whatever stands under its name.
        there = tables_text(paths[0]) if len(paths) == 1 and not server_path else ""
        there = f"; {there}" if there else ""
        wrong.append(f"of a database one of --table and --query is taken: --table NAME, or --query 'SELECT …'{there}")
    if database and (paths or server_path):
        wrong.append("--database stands in the place of a PATH")
    if database and kind != "table":
        wrong.append(f"--database is not for kind {kind}")
    if not database and not paths:
        wrong.append("a PATH is missing (or --database)")
    if server_path and kind in ("documents", "items"):
        wrong.append(f"--server-path is not for kind {kind}")
    if server_path and any(not path.startswith("/") for path in paths):
        wrong.append("a path on the server begins with /")
    if len(paths) > 1 and (server_path or kind in ("items", "table", "tasks")):
        wrong.append(f"{'--server-path' if server_path else f'kind {kind}'} takes one PATH, and {len(paths)} are given")
    if problem := source_name_problem(name) if name else "":
        wrong.append(problem)
    if wrong:
        raise InvalidInput("; ".join(wrong), code="bad_usage")


@app.command("list")
def list_(
    search: Annotated[str, typer.Option("--search", help="Part of a name.")] = "",
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only of this kind.", show_default=False)] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Sources to show.")] = 50,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Named sources by name, each with its latest version.

    Example: penstock sources list --search shop
    """

    async def work() -> None:
        from penstock.client.source_views import source_view

        async with connected(data) as client:
            views = [source_view(one) for one in await client.sources.list(search=search, kind=kind or "", limit=limit)]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("source", "kind", "version", "rows", "created", "id"),
            [
                (one["name"], one["kind"], one["version"], one["item_count"], one["create_time"], one["source_id"])
                for one in views
            ],
        )

    carry_out(work())


@app.command("show")
def show_(source: SourceArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """One source: its columns and what they hold, its versions and what changed, and what a reader should know.

    Example: penstock sources show mice
    """

    async def work() -> None:
        from penstock.client.source_views import source_description_view, source_view

        async with connected(data) as client:
            view = source_description_view(await client.sources.describe(source))
            name = view["source"]["name"]
            versions = [source_view(one) for one in await client.sources.versions(name)] if name else []
        if as_json:
            show.print_json({**view, "versions": versions})
        else:
            print_source(view, versions)

    carry_out(work())


@app.command()
def refresh(name: NameArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Read a source again where the server itself reads it: a new version with what changed, or the same one.

    Example: penstock sources refresh issues
    """

    async def work() -> None:
        from penstock.client.source_views import source_view

        async with connected(data) as client:
            before = await client.sources.get(name)
            with show.Progress(quiet=as_json) as progress:
                progress.show(0, "the server reads it")
                view = source_view(await client.sources.refresh(name))
        if as_json:
            show.print_json(view)
            return
        print_notices(view["notices"])
        same = view["version"] == before.version
        show.say("nothing has changed" if same else f"since version {before.version}: {change_text(view)}")
        show.say(source_line(view))

    carry_out(work())


@app.command()
def rows(
    source: SourceArgument,
    filter: RowsFilterOption = "",  # noqa: A002
    search: SearchOption = "",
    order_by: OrderByOption = "",
    skip: SkipOption = 0,
    limit: ShownOption = 20,
    columns: ColumnsOption = "",
    groups: GroupsOption = False,
    result_of: ResultOfOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rows of a catalog or table: filtered, searched, sorted and counted by the server.

    Examples:

      penstock sources rows mice --filter 'brand = "Razer" AND price < 50' --order-by "price desc"

      penstock sources rows mice --search viper --groups

      penstock sources rows mice --result-of scan --filter 'result.state = failed OR result.confidence < 0.7'
    """
    asked = question(
        filter=filter, search=search, order_by=order_by, skip=skip, limit=limit, groups=groups, result_of=result_of
    )

    async def work() -> None:
        from penstock.client.source_views import row_page_view, source_view

        async with connected(data) as client:
            page = row_page_view(await client.sources.rows(source, **asked))
            if as_json:
                show.print_json(page)
                return
            view = source_view(await client.sources.get(source))
        print_page(page, view, columns=columns, skip=skip, groups=groups, plan=False)

    carry_out(work())


@app.command()
def remove(name: NameArgument, yes: YesOption = False, data: DataOption = None, as_json: JsonOption = False) -> None:
    """Remove a source with all its versions, after a question. Refused while a plan needs it; previews go with it.

    The refusal names the plans: penstock plans remove PLAN

    Example: penstock sources remove mice --yes
    """

    async def work() -> int:
        async with connected(data) as client:
            seen = await client.sources.remove(name, validate_only=True)
            if not confirmed(f"Remove source {name} with {_removed(seen)}?", yes=yes):
                show.say("nothing was removed")
                return 1
            gone = await client.sources.remove(name)
        if as_json:
            show.print_json({"name": name, "version_count": gone.version_count, "draft_count": gone.draft_count})
        else:
            show.say(f"source {name} is removed, with {_removed(gone)}")
        return 0

    carry_out(work())


def _removed(gone: planner_pb2.DeleteSourceResponse) -> str:
    drafts = f" and {counted(gone.draft_count, 'preview')}" if gone.draft_count else ""
    return counted(gone.version_count, "version") + drafts
