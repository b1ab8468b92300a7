"""The documents contract as the client composes it: order, rounding, nulls, failed documents, matrices, size."""

from __future__ import annotations

import csv
import io
import json
import time

import pytest

from penstock.client import AsyncClient
from penstock.client.exports import COLUMNS, results_json
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import analyzer_pb2, planner_pb2
from penstock.v1 import scheduler_pb2 as s
from tests.integration.client.services import Services, completed_item, documents_run, summary


def small(services: Services) -> None:
    """Four documents: two in cluster 0, one in none, one failed, with names that spreadsheets would run."""
    text: dict[str, object] = {"text": "One. Two.", "segments": [], "features": {"words": 2}, "abstained": None}
    text["segments"] = [
        {"start": 0, "end": 4, "ai_probability": 0.71239, "confidence_level": "HIGH", "reasons": ["even rhythm"]}
    ]
    blob = services.blobs.put(json.dumps(text).encode()).sha256
    services.state.runs.append(
        documents_run(1, state=s.RUN_STATE_COMPLETED_WITH_FAILURES, total=4, completed=3, failed=1)
    )
    services.state.items["run-1"] = [
        completed_item(0, "=1+1.txt", 0.12345, "LOW", blob),
        s.RunItem(seq=1, key="b.exe", state=s.ITEM_STATE_FAILED, error="@wrong extension"),
        completed_item(2, 'c, "d".txt', 0.98765, "HIGH", blob),
        completed_item(3, "e.txt", None, "UNCERTAIN", blob),
    ]
    services.state.documents["run-1"] = [
        analyzer_pb2.CollectionDocument(
            seq=2,
            filename='c, "d".txt',
            cluster_id=0,
            summary=summary(0.98765),
            neighbours=[analyzer_pb2.Neighbour(seq=0, filename="=1+1.txt", similarity=0.51239)],
        ),
        analyzer_pb2.CollectionDocument(seq=0, filename="=1+1.txt", cluster_id=0, summary=summary(0.12345)),
        analyzer_pb2.CollectionDocument(seq=3, filename="e.txt", summary=summary(None)),
    ]
    services.state.collections["run-1"] = analyzer_pb2.Collection(
        run_id="run-1",
        document_count=3,
        clusters=[analyzer_pb2.Cluster(cluster_id=0, document_count=2, avg_ai_probability=0.55555, terms=["tide"])],
        similarity_matrix=analyzer_pb2.Matrix(size=3, values=[1, 0.51239, 0, 0.51239, 1, 0.1, 0, 0.1, 1]),
        embedding_provider="offline",
        embedding_model="lsa",
        unclustered_count=1,
    )


async def test_results_are_in_cluster_order_with_failed_documents_last(services: Services, client: AsyncClient) -> None:
    small(services)
    results = await client.documents.results(1)
    assert [row["id"] for row in results["documents"]] == [3, 1, 4, 2]
    assert results["documents"][0] == {
        "id": 3,
        "filename": 'c, "d".txt',
        "word_count": 300,
        "ai_probability": 0.988,
        "confidence_level": "HIGH",
        "cluster_id": 0,
        "status": "COMPLETED",
        "error": None,
    }
    listed = [request for name, request in services.state.calls if name == "ListItems"]
    assert not {s.ITEM_STATE_QUEUED, s.ITEM_STATE_COMPLETED} & {state for each in listed for state in each.states}
    assert results["documents"][2]["ai_probability"] is None
    assert results["documents"][2]["confidence_level"] == "UNCERTAIN"
    assert results["documents"][2]["cluster_id"] is None
    assert results["documents"][3] == {
        "id": 2,
        "filename": "b.exe",
        "word_count": None,
        "ai_probability": None,
        "confidence_level": None,
        "cluster_id": None,
        "status": "FAILED",
        "error": "@wrong extension",
    }
    assert results["clusters"] == [
        {"cluster_id": 0, "document_count": 2, "avg_ai_probability": 0.556, "terms": ["tide"]}
    ]
    assert results["similarity_matrix"] == [[1, 0.512, 0], [0.512, 1, 0.1], [0, 0.1, 1]]
    assert results["cluster_matrix"] is None


async def test_the_streamed_results_are_the_same(services: Services, client: AsyncClient) -> None:
    small(services)
    run = await client.documents.run(1)
    streamed = b"".join([piece async for piece in results_json(client.documents, run)])
    assert json.loads(streamed) == await client.documents.results(1)


async def test_while_processing_there_is_what_there_is(services: Services, client: AsyncClient) -> None:
    small(services)
    run = documents_run(2, state=s.RUN_STATE_RUNNING, total=4, completed=1, failed=1, collection=s.STAGE_STATE_PENDING)
    services.state.runs.append(run)
    services.state.items["run-2"] = [
        s.RunItem(seq=0, key="a", state=s.ITEM_STATE_FAILED, error="empty"),
        s.RunItem(seq=1, key="b", state=s.ITEM_STATE_RUNNING),
        completed_item(2, "c", 0.5, "MEDIUM"),
        s.RunItem(seq=3, key="d", state=s.ITEM_STATE_QUEUED),
    ]
    results = await client.documents.results(2)
    assert [(row["id"], row["status"]) for row in results["documents"]] == [
        (2, "PROCESSING"),
        (3, "COMPLETED"),
        (4, "PENDING"),
        (1, "FAILED"),
    ]
    assert results["similarity_matrix"] is None
    assert results["clusters"] == []
    assert results["job"]["status"] == "PROCESSING"
    streamed = b"".join([piece async for piece in results_json(client.documents, run)])
    assert json.loads(streamed) == results


async def test_a_stopped_job_keeps_its_results_readable(services: Services, client: AsyncClient) -> None:
    run = documents_run(1, state=s.RUN_STATE_STOPPED, total=2, completed=1, collection=s.STAGE_STATE_STOPPED)
    services.state.runs.append(run)
    services.state.items["run-1"] = [
        s.RunItem(seq=0, key="a", state=s.ITEM_STATE_STOPPED),
        completed_item(1, "b", 0.5, "MEDIUM"),
    ]
    results = await client.documents.results(1)
    assert results["job"]["status"] == "FAILED"
    assert [(row["id"], row["status"]) for row in results["documents"]] == [(2, "COMPLETED"), (1, "FAILED")]
    assert "stopped" in (results["documents"][1]["error"] or "")


async def test_one_document_has_text_segments_and_neighbours(services: Services, client: AsyncClient) -> None:
    small(services)
    document = await client.documents.document(1, 3)
    assert document == {
        "id": 3,
        "filename": 'c, "d".txt',
        "text": "One. Two.",
        "word_count": 300,
        "ai_probability": 0.988,
        "confidence_level": "HIGH",
        "confidence_distribution": {"high": 1, "medium": 2, "low": 3, "uncertain": 0},
        "cluster_id": 0,
        "status": "COMPLETED",
        "error": None,
        "segments": [
            {"start": 0, "end": 4, "ai_probability": 0.712, "confidence_level": "HIGH", "reasons": ["even rhythm"]}
        ],
        "features": {"words": 2},
        "neighbours": [{"id": 1, "filename": "=1+1.txt", "similarity": 0.512}],
    }
    failed = await client.documents.document(1, 2)
    assert (failed["status"], failed["error"], failed["text"]) == ("FAILED", "@wrong extension", None)
    assert failed["segments"] == []
    assert failed["neighbours"] == []
    for number in (0, 5, -1, 1 << 70):
        with pytest.raises(NotFound):
            await client.documents.document(1, number)


async def test_csv_has_rows_an_empty_line_and_the_summary(services: Services, client: AsyncClient) -> None:
    small(services)
    text = b"".join([piece async for piece in client.export(1, "csv")]).decode()
    rows, summary_lines = text.split("\n\n")
    table = list(csv.reader(io.StringIO(rows)))
    assert ",".join(table[0]) == (
        "id,filename,word_count,ai_probability,confidence_level,high,medium,low,uncertain,cluster_id,status,error"
    )
    assert table[0] == list(COLUMNS)
    assert table[1] == ["3", 'c, "d".txt', "300", "0.988", "HIGH", "1", "2", "3", "0", "0", "COMPLETED", ""]
    assert table[2][1] == "'=1+1.txt"
    assert table[4] == ["2", "b.exe", "", "", "", "", "", "", "", "", "FAILED", "'@wrong extension"]
    told = dict(csv.reader(io.StringIO(summary_lines)))
    assert told["job_id"] == "1"
    assert told["status"] == "COMPLETED"
    assert (told["completed_documents"], told["failed_documents"], told["clusters"]) == ("3", "1", "1")
    assert told["avg_ai_probability"] == "0.555"


async def test_json_export_has_rows_and_summary(services: Services, client: AsyncClient) -> None:
    small(services)
    told = json.loads(b"".join([piece async for piece in client.export(1, "json")]))
    assert told["job"]["job_id"] == 1
    assert [row["id"] for row in told["documents"]] == [3, 1, 4, 2]
    assert told["documents"][0]["confidence_distribution"] == {"high": 1, "medium": 2, "low": 3, "uncertain": 0}
    assert told["documents"][1]["filename"] == "=1+1.txt"
    assert told["documents"][3]["confidence_distribution"] is None
    assert told["summary"]["failed_documents"] == 1
    assert told["clusters"][0]["terms"] == ["tide"]


async def test_other_formats_are_refused(services: Services, client: AsyncClient) -> None:
    small(services)
    with pytest.raises(InvalidInput, match="csv, json"):
        [piece async for piece in client.export(1, "xml")]


async def test_ten_thousand_documents_take_few_calls_and_little_time(services: Services, client: AsyncClient) -> None:
    count = 10_000
    services.state.runs.append(documents_run(1, total=count, completed=count))
    services.state.documents["run-1"] = [
        analyzer_pb2.CollectionDocument(seq=n, filename=f"{n}.txt", cluster_id=n % 3, summary=summary(0.3))
        for n in range(count)
    ]
    services.state.collections["run-1"] = analyzer_pb2.Collection(
        document_count=count, cluster_matrix=analyzer_pb2.Matrix(size=2, values=[1, 0.25, 0.25, 1])
    )
    began = time.process_time()
    size = sum([len(piece) async for piece in client.export(1, "csv")])
    results = await client.documents.results(1)
    spent = time.process_time() - began
    assert size > count * 30
    assert len(results["documents"]) == count
    assert results["similarity_matrix"] is None
    assert results["cluster_matrix"] == [[1, 0.25], [0.25, 1]]
    assert len(services.state.named("ListCollectionDocuments")) == 4
    assert len(services.state.named("ListItems")) == 2
    assert spent < 5, f"{spent:.1f} s of CPU, the services' own among it"


async def test_a_run_of_items_is_no_job(services: Services, client: AsyncClient) -> None:
    run = documents_run(1, total=1)
    run.kind = planner_pb2.SOURCE_KIND_ITEMS
    services.state.runs.append(run)
    for job in (1, 2, 0, -3, 1 << 70, "run-9"):
        with pytest.raises(NotFound, match="job"):
            await client.documents.status(job)


async def test_jobs_are_listed_newest_first_and_at_most_100(services: Services, client: AsyncClient) -> None:
    services.state.runs.extend(documents_run(number, total=1, completed=1) for number in range(1, 121))
    assert [job["job_id"] for job in await client.documents.jobs(skip=5, limit=3)] == [115, 114, 113]
    assert len(await client.documents.jobs()) == 50
    assert len(await client.documents.jobs(limit=1000)) == 100
    with pytest.raises(InvalidInput):
        await client.documents.jobs(skip=-1)
