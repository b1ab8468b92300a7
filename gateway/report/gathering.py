"""What a report shows, read within bounds:

rows of the table, the collection, and the texts of the most notable documents.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock.client.asynchronous import AsyncClient
from penstock.client.documents import Row
from penstock.client.jobs import COMPLETED, FAILED, JobStatus, job_status
from penstock.runtime.errors import NotFound
from penstock.v1 import analyzer_pb2, scheduler_pb2

__all__ = ["MAX_MEMBERS", "MAX_ROWS", "Report", "Text", "gather", "notable"]

MAX_ROWS = 10_000
"""Rows of the table; 300 bytes each."""
MAX_TEXTS = 200
MAX_TEXT_BYTES = 4_000_000
"""Bytes of all outcome blobs that are shown with their text."""
READ_AT_ONCE = 50


@dataclass(frozen=True)
class Text:
    """A document that is shown whole: its row and its outcome's details."""

    row: Row
    details: Mapping[str, Any]


@dataclass
class Report:
    """rows: the first MAX_ROWS, in cluster order, failed ones last; names: of every document that anything links to."""

    job: JobStatus
    name: str
    rows: list[Row] = field(default_factory=list)
    failed: list[Row] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)
    levels: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    words: int = 0
    judged: int = 0
    probability: float = 0.0
    members: dict[int, list[Row]] = field(default_factory=dict)
    collection: analyzer_pb2.Collection | None = None
    names: dict[int, str] = field(default_factory=dict)

    @property
    def average(self) -> float | None:
        return self.probability / self.judged if self.judged else None


MAX_MEMBERS = 8
MAX_FAILED = 500


def _add(report: Report, row: Row) -> None:
    report.statuses[row.status] += 1
    if len(report.rows) < MAX_ROWS:
        report.rows.append(row)
    if row.status == FAILED and len(report.failed) < MAX_FAILED:
        report.failed.append(row)
    if row.status != COMPLETED:
        return
    report.levels[row.confidence_level or "UNCERTAIN"] += 1
    report.words += row.word_count or 0
    if row.ai_probability is not None:
        report.judged += 1
        report.probability += row.ai_probability
    if row.cluster_id is not None:
        members = report.members.setdefault(row.cluster_id, [])
        if len(members) < MAX_MEMBERS:
            members.append(row)


def notable(rows: Sequence[Row], members: Mapping[int, Sequence[Row]], paired: Sequence[int]) -> list[Row]:
    """The documents whose texts are shown: all if they are few, else the highest probabilities, one of each cluster,
    and pairs.

    paired: ids of documents in the most similar pairs. In the order of the table.
    """
    done = [row for row in rows if row.status == COMPLETED]
    if len(done) <= MAX_TEXTS:
        return done
    by_id = {row.id: row for row in done}
    ranked = sorted(done, key=lambda row: -(row.ai_probability or 0.0))
    wanted: dict[int, None] = dict.fromkeys(row.id for row in ranked[: MAX_TEXTS // 2])
    for group in members.values():
        wanted.setdefault(group[0].id)
    for one in paired:
        wanted.setdefault(one)
    for row in ranked[MAX_TEXTS // 2 :]:
        if len(wanted) >= MAX_TEXTS:
            break
        wanted.setdefault(row.id)
    chosen = {one for one in list(wanted)[:MAX_TEXTS] if one in by_id}
    return [row for row in done if row.id in chosen]


async def gather(client: AsyncClient, run: scheduler_pb2.Run) -> Report:
    report = Report(job_status(run), run.name)
    try:
        report.collection = await client.documents.collection(run)
    except NotFound:
        report.collection = None
    linked: set[int] = set()
    paired: list[int] = []
    if report.collection is not None:
        for pair in report.collection.similar_pairs[:50]:
            paired += [pair.seq + 1, pair.other_seq + 1]
        linked = set(paired)
        linked.update(seq + 1 for group in report.collection.duplicate_groups for seq in group.seqs[:MAX_MEMBERS])
        linked.update(seq + 1 for one in report.collection.passages for seq in (one.seq, one.other_seq))
    async for page in client.documents.pages(run):
        for row in page:
            _add(report, row)
            if row.id in linked:
                report.names[row.id] = row.filename
    chosen = notable(report.rows, report.members, paired)
    report.texts = await _texts(client, run, chosen)
    return report


async def _texts(client: AsyncClient, run: scheduler_pb2.Run, chosen: Sequence[Row]) -> list[Text]:
    texts: list[Text] = []
    left = MAX_TEXT_BYTES
    for at in range(0, len(chosen), READ_AT_ONCE):
        rows = {row.id - 1: row for row in chosen[at : at + READ_AT_ONCE]}
        page = await client.items.page(run.run_id, seqs=list(rows), page_size=READ_AT_ONCE)
        items = {item.seq: item for item in page.items}
        fitting = []
        for seq, row in rows.items():
            item = items.get(seq)
            if item is not None and item.result_blob.sha256 and item.result_blob.size_bytes <= left:
                left -= item.result_blob.size_bytes
                fitting.append((row, item))
        details = await asyncio.gather(*(client.documents.details(item) for _, item in fitting))
        texts += [Text(row, one) for (row, _), one in zip(fitting, details, strict=True)]
    return texts
