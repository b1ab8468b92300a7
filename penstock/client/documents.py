"""The documents contract: jobs, results, one document. Composed here once, for the gateway and the command line alike.

A job is a run of documents; its id is the run's number, and a document's id is its item's seq + 1. While the job is
under way, and when it has failed, rows come from the scheduler in the order of upload; once it is COMPLETED they come
from the analyzer in cluster order, so that row i of the similarity matrix is document i. Failed documents come last
and have no row in it. Rows come in pages of 5,000 and are never all held by a caller that streams them. Nothing here
writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from typing_extensions import TypedDict

from penstock.client.collection_views import matrix_rows
from penstock.client.connection import Connection
from penstock.client.items import Items
from penstock.client.jobs import COMPLETED, FAILED, JobStatus, document_status, job_status
from penstock.client.resources import Collections, Plans, Sources
from penstock.client.runs import RunRef, Runs
from penstock.client.uploads import PathLike
from penstock.levels import level_word
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import analyzer_pb2, planner_pb2, scheduler_pb2
from penstock.words import DEFAULT_GRANULARITY, GRANULARITIES

__all__ = [
    "MAX_JOBS",
    "ClusterRow",
    "Distribution",
    "DocumentRow",
    "DocumentView",
    "Documents",
    "Neighbour",
    "Results",
    "Row",
    "Segment",
    "checked_granularity",
    "cluster_row",
    "speaks_for",
]

MAX_JOBS = 100
DOCUMENTS_STAGE = 0
SETTLED_OTHERWISE = ("failed", "skipped", "stopped")
"""States of the documents that a COMPLETED job has beside its analysed ones: nothing waits any more."""


class Distribution(TypedDict):
    high: int
    medium: int
    low: int
    uncertain: int


class DocumentRow(TypedDict):
    id: int
    filename: str
    word_count: int | None
    ai_probability: float | None
    confidence_level: str | None
    cluster_id: int | None
    status: str
    error: str | None


class ClusterRow(TypedDict):
    cluster_id: int
    document_count: int
    avg_ai_probability: float | None
    terms: list[str]


class Results(TypedDict):
    job: JobStatus
    documents: list[DocumentRow]
    clusters: list[ClusterRow]
    similarity_matrix: list[list[float]] | None
    cluster_matrix: list[list[float]] | None


class Segment(TypedDict):
    start: int
    end: int
    ai_probability: float | None
    confidence_level: str
    reasons: list[str]


class Neighbour(TypedDict):
    id: int
    filename: str
    similarity: float


class DocumentView(TypedDict):
    id: int
    filename: str
    text: str | None
    word_count: int | None
    ai_probability: float | None
    confidence_level: str | None
    confidence_distribution: Distribution | None
    cluster_id: int | None
    status: str
    error: str | None
    segments: list[Segment]
    features: dict[str, Any]
    neighbours: list[Neighbour]


@dataclass(frozen=True, slots=True)
class Row:
    """A document in a result or an export. Segment counts by level are None unless it is COMPLETED."""

    id: int
    filename: str
    status: str
    error: str | None = None
    word_count: int | None = None
    ai_probability: float | None = None
    confidence_level: str | None = None
    distribution: tuple[int, int, int, int] | None = None
    cluster_id: int | None = None

    def brief(self) -> DocumentRow:
        return {
            "id": self.id,
            "filename": self.filename,
            "word_count": self.word_count,
            "ai_probability": self.ai_probability,
            "confidence_level": self.confidence_level,
            "cluster_id": self.cluster_id,
            "status": self.status,
            "error": self.error,
        }

    def confidence_distribution(self) -> Distribution | None:
        if self.distribution is None:
            return None
        high, medium, low, uncertain = self.distribution
        return {"high": high, "medium": medium, "low": low, "uncertain": uncertain}


def checked_granularity(value: str) -> str:
    """The granularity, `sentence` where none is given. Raises InvalidInput."""
    if value and value not in GRANULARITIES:
        raise InvalidInput(
            f"granularity is {value!r}; it must be one of {', '.join(GRANULARITIES)}", code="bad_granularity"
        )
    return value or DEFAULT_GRANULARITY


def speaks_for(level: str) -> str:
    """Which way the reasons of a segment of this level point."""
    return "speaks for a person" if level == "LOW" else "speaks for a model"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def _collected(document: analyzer_pb2.CollectionDocument) -> Row:
    summary = document.summary
    return Row(
        id=document.seq + 1,
        filename=document.filename,
        status=COMPLETED,
        word_count=summary.word_count,
        ai_probability=round(summary.ai_probability, 3) if summary.HasField("ai_probability") else None,
        confidence_level=level_word(summary.confidence_level),
        distribution=(summary.high, summary.medium, summary.low, summary.uncertain),
        cluster_id=document.cluster_id if document.HasField("cluster_id") else None,
    )


def _listed(item: scheduler_pb2.RunItem) -> Row:
    status = document_status(item.state)
    if status != COMPLETED:
        error = item.error or None
        if status == FAILED and error is None:
            error = "not analysed: the job was stopped before its turn"
        return Row(id=item.seq + 1, filename=item.key, status=status, error=error if status == FAILED else None)
    result = orjson.loads(item.result) if item.result else {}
    counts = result.get("confidence_distribution") or {}
    return Row(
        id=item.seq + 1,
        filename=item.key,
        status=status,
        word_count=result.get("word_count"),
        ai_probability=_rounded(result.get("ai_probability")),
        confidence_level=result.get("confidence_level"),
        distribution=(
            counts.get("high", 0),
            counts.get("medium", 0),
            counts.get("low", 0),
            counts.get("uncertain", 0),
        ),
    )


def _segment(told: dict[str, Any]) -> Segment:
    return {
        "start": told["start"],
        "end": told["end"],
        "ai_probability": _rounded(told["ai_probability"]),
        "confidence_level": told["confidence_level"],
        "reasons": told["reasons"],
    }


def cluster_row(cluster: analyzer_pb2.Cluster) -> ClusterRow:
    return {
        "cluster_id": cluster.cluster_id,
        "document_count": cluster.document_count,
        "avg_ai_probability": round(cluster.avg_ai_probability, 3) if cluster.HasField("avg_ai_probability") else None,
        "terms": list(cluster.terms),
    }


class Documents:
    """Jobs of documents. A job is named by its number or by its run id."""

    def __init__(self, connection: Connection, *, sources: Sources, plans: Plans, runs: Runs) -> None:
        self._connection = connection
        self._sources = sources
        self._plans = plans
        self._runs = runs
        self._items = Items(connection)
        self._collections = Collections(connection)

    async def analyze(
        self,
        paths: Sequence[PathLike],
        *,
        zip: bool = False,  # noqa: A002
        granularity: str = DEFAULT_GRANULARITY,
        name: str = "",
        on_upload: Callable[[planner_pb2.Source], None] = lambda source: None,
    ) -> JobStatus:
        """Uploads files and folders (or one archive) and starts a job on them. Durable when it answers."""
        granularity = checked_granularity(granularity)
        source = await self._sources.documents(paths, zip=zip)
        on_upload(source)
        return await self.start(source.source_id, granularity=granularity, name=name)

    async def start(self, source_id: str, *, granularity: str = DEFAULT_GRANULARITY, name: str = "") -> JobStatus:
        """Starts a job on an uploaded source."""
        plan = await self._plans.create(source_id, granularity=checked_granularity(granularity), name=name)
        return job_status(await self._runs.start(plan.plan_id, name=name))

    async def run(self, job: RunRef) -> scheduler_pb2.Run:
        """The run of a job. Raises NotFound, also for a run of something else."""
        try:
            if isinstance(job, int) and not 0 < job < 1 << 62:
                raise NotFound("no run has this number")
            run = await self._runs.get(job)
        except NotFound:
            raise NotFound(f"there is no job {job}", code="job_not_found") from None
        if run.kind != planner_pb2.SOURCE_KIND_DOCUMENTS:
            raise NotFound(f"there is no documents job {job}: that run is of plain items", code="job_not_found")
        return run

    async def status(self, job: RunRef) -> JobStatus:
        return job_status(await self.run(job))

    async def jobs(self, *, skip: int = 0, limit: int = 50) -> list[JobStatus]:
        """The newest first; at most 100."""
        if skip < 0 or limit < 1:
            raise InvalidInput(f"skip is {skip} and limit {limit}; skip is 0 or more, limit 1 to {MAX_JOBS}")
        page = await self._runs.list_page(
            page_size=min(limit, MAX_JOBS), skip=skip, kind=planner_pb2.SOURCE_KIND_DOCUMENTS
        )
        return [job_status(run) for run in page.runs]

    async def wait(self, job: RunRef, *, on_change: Callable[[JobStatus], None] = lambda status: None) -> JobStatus:
        """The status once the job has ended; `on_change` sees it on the way."""
        run = await self.run(job)
        return job_status(await self._runs.wait(run.run_id, on_change=lambda seen: on_change(job_status(seen))))

    async def collection(self, run: scheduler_pb2.Run) -> analyzer_pb2.Collection | None:
        """The collection of a COMPLETED job; None before."""
        if job_status(run)["status"] != COMPLETED:
            return None
        return await self._collections.get(run.run_id)

    async def pages(self, run: scheduler_pb2.Run) -> AsyncIterator[list[Row]]:
        """Every document, page by page, failed ones last."""
        if job_status(run)["status"] == COMPLETED:
            async for collected in self._collections.pages(run.run_id):
                yield [_collected(document) for document in collected]
            async for items in self._items.pages(run.run_id, stage=DOCUMENTS_STAGE, states=SETTLED_OTHERWISE):
                yield [_listed(item) for item in items]
            return
        failed: list[Row] = []
        async for items in self._items.pages(run.run_id, stage=DOCUMENTS_STAGE):
            rows = [_listed(item) for item in items]
            failed.extend(row for row in rows if row.status == FAILED)
            yield [row for row in rows if row.status != FAILED]
        yield failed

    async def results(self, job: RunRef) -> Results:
        """Everything in one object: what there is so far while the job is under way."""
        run = await self.run(job)
        collection = await self.collection(run)
        rows = [row.brief() async for page in self.pages(run) for row in page]
        told = collection or analyzer_pb2.Collection()
        matrix = await asyncio.to_thread(lambda: list(matrix_rows(told.similarity_matrix)))
        return {
            "job": job_status(run),
            "documents": rows,
            "clusters": [cluster_row(cluster) for cluster in told.clusters],
            "similarity_matrix": matrix or None,
            "cluster_matrix": list(matrix_rows(told.cluster_matrix)) or None,
        }

    async def document(self, job: RunRef, document_id: int) -> DocumentView:
        """One document with its text and segments. Raises NotFound."""
        run = await self.run(job)
        seq = document_id - 1
        missing = NotFound(f"job {job} has no document {document_id}", code="document_not_found")
        if not 0 <= seq < run.stages[DOCUMENTS_STAGE].counts.total:
            raise missing
        page = await self._items.page(run.run_id, stage=DOCUMENTS_STAGE, seqs=[seq], page_size=1)
        if not page.items:
            raise missing
        item = page.items[0]
        row = _listed(item)
        neighbours: list[Neighbour] = []
        cluster_id: int | None = None
        if row.status == COMPLETED and job_status(run)["status"] == COMPLETED:
            found = await self._collections.documents_page(run.run_id, seqs=[seq])
            for document in found.documents:
                cluster_id = document.cluster_id if document.HasField("cluster_id") else None
                neighbours = [
                    {"id": near.seq + 1, "filename": near.filename, "similarity": round(near.similarity, 3)}
                    for near in document.neighbours
                ]
        details = await self.details(item)
        return {
            "id": row.id,
            "filename": row.filename,
            "text": details.get("text"),
            "word_count": row.word_count,
            "ai_probability": row.ai_probability,
            "confidence_level": row.confidence_level,
            "confidence_distribution": row.confidence_distribution(),
            "cluster_id": cluster_id,
            "status": row.status,
            "error": row.error,
            "segments": [_segment(segment) for segment in details.get("segments", ())],
            "features": details.get("features") or {},
            "neighbours": neighbours,
        }

    async def details(self, item: scheduler_pb2.RunItem) -> dict[str, Any]:
        """The outcome's blob of a completed document: text, segments, features, …; empty for any other."""
        if item.state != scheduler_pb2.ITEM_STATE_COMPLETED or not item.result_blob.sha256:
            return {}
        data = await asyncio.to_thread(self._connection.blobs.get, item.result_blob.sha256)
        details: dict[str, Any] = orjson.loads(data)
        return details
