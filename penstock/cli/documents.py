"""`penstock documents`: upload documents, see what they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import show
from penstock.cli.options import (
    INTERRUPTED,
    DataOption,
    JobArgument,
    JsonOption,
    carry_out,
    connected,
    reference,
)
from penstock.words import counted

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.client.documents import Row
    from penstock.client.jobs import JobStatus
    from penstock.v1 import analyzer_pb2, planner_pb2, scheduler_pb2

__all__ = ["app"]

PAIRS_SHOWN = 10
ROWS_SHOWN = 50

app = typer.Typer(no_args_is_help=True, help="Upload many documents, see what they are.")

ExportOption = Annotated[
    Path | None,
    typer.Option("--export", metavar="FILE", help="Also write all results to FILE.csv or FILE.json."),
]
RowsOption = Annotated[int, typer.Option("--rows", min=0, help="Rows of the documents' table to show.")]


@app.command()
def analyze(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files and folders; with --zip one archive.")],
    zip_: Annotated[bool, typer.Option("--zip", help="PATH is one zip archive of documents.")] = False,
    granularity: Annotated[
        str, typer.Option("--granularity", help="What is judged: each `sentence` or each `paragraph`.")
    ] = "sentence",
    name: Annotated[str, typer.Option("--name", help="A name for people.")] = "",
    export: ExportOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the results, or only start.")] = True,
    rows: RowsOption = ROWS_SHOWN,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Analyse documents: .txt, .md, .pdf, .docx and .html files, folders of them, or a zip.

    A folder's documents are named by their path inside it. Ctrl-C leaves the job running and says how to come back.

    Examples:

      penstock documents analyze report.pdf notes/

      penstock documents analyze --zip texts.zip --granularity paragraph --export results.csv

      penstock documents analyze texts/ --no-wait --json
    """
    from penstock.runtime.errors import InvalidInput

    chosen = _export_format(export)
    if export and not wait:
        raise InvalidInput(
            f"--no-wait has no results to export: without it --export {export} is written once the job has ended; "
            f"or later: penstock documents show JOB --export {export}",
            code="bad_usage",
        )
    _check_archives(paths, zip_=zip_)

    async def work() -> int:
        sources: list[planner_pb2.Source] = []
        async with connected(data) as client:
            with show.Progress(quiet=as_json) as progress:
                progress.show(0, "uploading")
                job = await client.documents.analyze(
                    paths, zip=zip_, granularity=granularity, name=name, on_upload=sources.append
                )
            if (ignored := sources[0].ignored_count) and not as_json:
                entries = "entry" if ignored == 1 else "entries"
                print(f"ignored {ignored} {entries} of the archive: folders, dotfiles, __MACOSX", file=sys.stderr)
            if not wait:
                if as_json:
                    show.print_json(job)
                else:
                    documents = counted(job["total_documents"], "document")
                    show.say(f"job {job['job_id']} started: {documents} ({job['run_id']})")
                    show.say(f"see it: penstock documents show {job['job_id']}")
                return 0
            return await _follow(client, job["job_id"], export, chosen, rows=rows, as_json=as_json)

    carry_out(work())


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="Jobs to show.")] = 20,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest jobs, newest first.

    Example: penstock documents list --limit 5
    """

    async def work() -> None:
        async with connected(data) as client:
            jobs = await client.documents.jobs(limit=limit)
        if as_json:
            show.print_json(jobs)
            return
        show.print_table(
            ("job", "status", "documents", "done", "granularity", "created", "error"),
            [
                (
                    job["job_id"],
                    job["status"],
                    job["total_documents"],
                    f"{job['progress']}%",
                    job["granularity"],
                    job["created_at"],
                    job["error_message"],
                )
                for job in jobs
            ],
        )

    carry_out(work())


@app.command("show")
def show_(
    job: JobArgument,
    document: Annotated[
        int | None, typer.Option("--document", metavar="ID", help="Show one document with its segments.")
    ] = None,
    export: ExportOption = None,
    rows: RowsOption = ROWS_SHOWN,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The results of a job: what there is so far while it is under way.

    Examples:

      penstock documents show 3

      penstock documents show 3 --export results.csv

      penstock documents show 3 --document 17
    """
    chosen = _export_format(export)

    async def work() -> int:
        async with connected(data) as client:
            if document is not None:
                return await _show_document(client, reference(job), document, as_json=as_json)
            return await _show_results(client, reference(job), export, chosen, rows=rows, as_json=as_json)

    carry_out(work())


def _export_format(path: Path | None) -> str:
    """csv or json, by the file's name. Raises InvalidInput before anything is uploaded."""
    if path is None:
        return ""
    from penstock.runtime.errors import InvalidInput

    kind = path.suffix.lower().removeprefix(".")
    if kind not in ("csv", "json"):
        raise InvalidInput(f"--export {path}: a name that ends in .csv or .json is needed", code="bad_format")
    if not path.absolute().parent.is_dir():
        raise InvalidInput(f"--export {path}: there is no folder {path.absolute().parent}", code="bad_path")
    return kind


def _check_archives(paths: list[Path], *, zip_: bool) -> None:
    """A zip is given alone and with --zip. Raises InvalidInput before anything is uploaded."""
    from penstock.runtime.errors import InvalidInput

    if zip_:
        if len(paths) > 1:
            raise InvalidInput(f"--zip takes one archive; {len(paths)} paths were given", code="one_archive")
        if paths[0].is_dir():
            raise InvalidInput(
                f"--zip takes one archive; {paths[0]} is a folder: give it without --zip", code="one_archive"
            )
        return
    archive = next((path for path in paths if path.suffix.lower() == ".zip" and path.is_file()), None)
    if archive is not None:
        alone = ", alone" if len(paths) > 1 else ""
        raise InvalidInput(f"{archive} is an archive: use --zip {archive}{alone}", code="one_archive")


async def _follow(client: AsyncClient, job_id: int, export: Path | None, kind: str, *, rows: int, as_json: bool) -> int:
    import asyncio

    def on_change(status: JobStatus) -> None:
        done, total = status["processed_documents"], status["total_documents"]
        words = f"{done} of {counted(total, 'document')}" if done < total else "comparing the documents"
        if status["status"] in ("COMPLETED", "FAILED"):
            words = counted(total, "document")
        progress.show(status["progress"] / 100, words)

    try:
        with show.Progress(quiet=as_json) as progress:
            await client.documents.wait(job_id, on_change=on_change)
    except asyncio.CancelledError:
        print(
            f"\ndetached: job {job_id} goes on. See it: penstock documents show {job_id}; "
            f"watch it: penstock runs watch {job_id}; stop it: penstock runs stop {job_id}",
            file=sys.stderr,
        )
        return INTERRUPTED
    return await _show_results(client, job_id, export, kind, rows=rows, as_json=as_json)


async def _show_results(
    client: AsyncClient, job: int | str, export: Path | None, kind: str, *, rows: int, as_json: bool
) -> int:
    from penstock.client.exports import results_json
    from penstock.client.jobs import job_status

    run = await client.documents.run(job)
    if export is not None:
        await _write_export(client, run, export, kind)
    if as_json:
        async for piece in results_json(client.documents, run):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()
    else:
        table = [row async for page in client.documents.pages(run) for row in page]
        collection = await client.documents.collection(run)
        _overview(job_status(run), table, collection)
        if collection is not None:
            _clusters(collection)
            _pairs(collection, {row.id: row.filename for row in table})
        _table(table, rows)
        if export is not None:
            show.say(f"\nwritten: {export}")
    return _exit_code(run)


def _exit_code(run: scheduler_pb2.Run) -> int:
    from penstock.cli.outcome import exit_code

    return exit_code(run)


async def _write_export(client: AsyncClient, run: scheduler_pb2.Run, path: Path, kind: str) -> None:
    # Beside its place first: an export that breaks off leaves the older file as it was.
    beside = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        with beside.open("wb") as file:
            async for piece in client.export(run.run_id, kind):
                file.write(piece)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _overview(job: JobStatus, table: list[Row], collection: analyzer_pb2.Collection | None) -> None:
    levels = {
        level: sum(row.confidence_level == level for row in table) for level in ("HIGH", "MEDIUM", "LOW", "UNCERTAIN")
    }
    judged = [row.ai_probability for row in table if row.ai_probability is not None]
    failed = sum(row.status == "FAILED" for row in table)
    show.say(f"Job {job['job_id']}: {job['status']}" + (f" ({job['error_message']})" if job["error_message"] else ""))
    show.say(f"  documents       {job['total_documents']}" + (f", {failed} failed" if failed else ""))
    show.say(f"  AI probability  {show.number(sum(judged) / len(judged) if judged else None)} on average")
    show.say("  by level        " + ", ".join(f"{count} {level}" for level, count in levels.items()))
    if collection is not None:
        loose = collection.unclustered_count
        alone = f", {counted(loose, 'document')} in none" if loose else ""
        show.say(f"  clusters        {len(collection.clusters)}{alone}")
        model = f" ({collection.embedding_model})" if collection.embedding_model else ""
        show.say(f"  embeddings      {collection.embedding_provider}{model}")


def _clusters(collection: analyzer_pb2.Collection) -> None:
    if not collection.clusters:
        return
    show.say("\nClusters")
    show.print_table(
        ("cluster", "documents", "AI probability", "similarity", "terms"),
        [
            (
                cluster.cluster_id,
                cluster.document_count,
                show.number(cluster.avg_ai_probability if cluster.HasField("avg_ai_probability") else None),
                show.number(cluster.avg_similarity),
                ", ".join(cluster.terms[:5]),
            )
            for cluster in collection.clusters
        ],
    )


def _pairs(collection: analyzer_pb2.Collection, names: dict[int, str]) -> None:
    if not collection.similar_pairs:
        return
    show.say("\nMost similar")
    show.print_table(
        ("similarity", "document", "and"),
        [
            (show.number(pair.similarity), names.get(pair.seq + 1), names.get(pair.other_seq + 1))
            for pair in collection.similar_pairs[:PAIRS_SHOWN]
        ],
    )


def _table(table: list[Row], rows: int) -> None:
    if not rows or not table:
        return
    show.say("\nDocuments")
    show.print_table(
        ("id", "document", "words", "AI probability", "level", "cluster", "status", "error"),
        [
            (
                row.id,
                row.filename,
                row.word_count,
                show.number(row.ai_probability),
                row.confidence_level,
                row.cluster_id,
                row.status,
                row.error,
            )
            for row in table[:rows]
        ],
    )
    if len(table) > rows:
        show.say(f"… and {len(table) - rows} more: --rows N shows more, --export FILE.csv writes all")


async def _show_document(client: AsyncClient, job: int | str, document_id: int, *, as_json: bool) -> int:
    from penstock.client.documents import speaks_for

    view = await client.documents.document(job, document_id)
    if as_json:
        show.print_json(view)
        return 0
    show.say(
        f"{show.text(view['filename'])}: {view['status']}" + (f" ({show.text(view['error'])})" if view["error"] else "")
    )
    show.say(f"  words           {show.text(view['word_count'])}")
    show.say(f"  AI probability  {show.number(view['ai_probability'])}  {show.text(view['confidence_level'])}")
    whole = view["text"] or ""
    for segment in view["segments"]:
        words = show.shortened(" ".join(whole[segment["start"] : segment["end"]].split()), 90)
        show.say(f"\n  {show.number(segment['ai_probability'])} {segment['confidence_level']:<9} {words}")
        if segment["reasons"]:
            show.say(f"        {speaks_for(segment['confidence_level'])}: {show.text('; '.join(segment['reasons']))}")
    if view["neighbours"]:
        show.say("\nNearest")
        show.print_table(
            ("similarity", "id", "document"),
            [(show.number(near["similarity"]), near["id"], near["filename"]) for near in view["neighbours"]],
        )
    return 0
