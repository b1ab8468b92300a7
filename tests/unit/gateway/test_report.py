"""The report: nothing of a document runs, nothing is loaded, and it stays bounded."""

from __future__ import annotations

import base64
import re
import struct
import zlib
from html.parser import HTMLParser

from gateway.report.gathering import MAX_ROWS, Report, Text, notable
from gateway.report.heatmap import Label, heatmap, png
from gateway.report.page import render
from gateway.report.texts import MAX_TOTAL, articles
from penstock.client.documents import Row
from penstock.client.jobs import JobStatus
from penstock.v1 import analyzer_pb2

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"

JOB: JobStatus = {
    "job_id": 7,
    "run_id": "run-a",
    "status": "COMPLETED",
    "total_documents": 3,
    "processed_documents": 3,
    "granularity": "sentence",
    "created_at": "2026-01-01T10:00:00.000Z",
    "started_at": "2026-01-01T10:00:01.000Z",
    "completed_at": "2026-01-01T10:00:09.000Z",
    "error_message": None,
    "progress": 100,
}


def row(number: int, probability: float | None = 0.8, cluster: int | None = 0, name: str = "") -> Row:
    level = "UNCERTAIN" if probability is None else "HIGH" if probability > 0.7 else "LOW"
    return Row(
        id=number,
        filename=name or f"{number}.txt",
        status="COMPLETED",
        word_count=300,
        ai_probability=probability,
        confidence_level=level,
        distribution=(1, 0, 0, 0),
        cluster_id=cluster,
    )


def evil_report() -> Report:
    report = Report(dict(JOB), EVIL)  # type: ignore[arg-type]
    failed = Row(id=3, filename=EVIL, status="FAILED", error=EVIL)
    report.rows = [row(1, name=EVIL), row(2, None, None, name=EVIL), failed]
    report.failed = [failed]
    report.statuses.update(["COMPLETED", "COMPLETED", "FAILED"])
    report.levels.update(["HIGH", "UNCERTAIN"])
    report.members = {0: [report.rows[0]]}
    report.names = {1: EVIL, 2: EVIL}
    segments = [
        {"start": 0, "end": 10, "ai_probability": 0.8, "confidence_level": "HIGH", "reasons": [EVIL]},
        {"start": 5, "end": 20, "ai_probability": 0.8, "confidence_level": "HIGH", "reasons": []},
        {"start": 12, "end": 9999, "ai_probability": None, "confidence_level": "UNCERTAIN", "reasons": []},
    ]
    report.texts = [
        Text(one, {"text": EVIL + "\ud83d\ude00", "segments": segments, "abstained": EVIL}) for one in report.rows[:2]
    ]
    report.collection = analyzer_pb2.Collection(
        clusters=[analyzer_pb2.Cluster(document_count=1, terms=[EVIL])],
        similarity_matrix=analyzer_pb2.Matrix(size=2, values=[1, 0.5, 0.5, 1]),
        similar_pairs=[analyzer_pb2.SimilarPair(seq=0, other_seq=1, similarity=0.5)],
        duplicate_groups=[analyzer_pb2.DuplicateGroup(seqs=[0, 1], min_similarity=0.9)],
        passages=[analyzer_pb2.Passage(seq=0, other_seq=1, text=EVIL)],
        embedding_provider=EVIL,
    )
    return report


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_nothing_of_a_document_becomes_markup() -> None:
    page = render(evil_report()).decode()
    elements = Elements()
    elements.feed(page)
    assert [tag for tag, _ in elements.found].count("script") == 1
    assert "img" not in {tag for tag, _ in elements.found}
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_it_loads_nothing_and_runs_only_its_own_script() -> None:
    page = render(evil_report()).decode()
    elements = Elements()
    elements.feed(page)
    for _, attributes in elements.found:
        for name in ("src", "href", "action", "data", "poster", "style"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:image/png")), target
    policy = next(a["content"] for _, a in elements.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    script = re.search(r"<script>(.*)</script>", page, re.S)
    assert script is not None
    import hashlib

    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy


def test_the_links_at_the_top_lead_to_what_is_there() -> None:
    bare = Report({**JOB, "total_documents": 1}, "")
    bare.rows = [row(1)]
    bare.statuses["COMPLETED"] = 1
    for report in (bare, evil_report()):
        elements = Elements()
        elements.feed(render(report).decode())
        ids = {attributes["id"] for _, attributes in elements.found if "id" in attributes}
        targets = [
            a["href"] or "" for tag, a in elements.found if tag == "a" and not (a["href"] or "").startswith("#doc-")
        ]
        assert {target.removeprefix("#") for target in targets} <= ids
    page = render(bare).decode()
    assert page.count("Job 7") == 2, "the title and the heading, and not below it again"
    assert "#clusters" not in page


def test_numbers_and_reasons_say_what_they_mean() -> None:
    report = evil_report()
    low = {"start": 0, "end": 10, "ai_probability": 0.1, "confidence_level": "LOW", "reasons": ["frequent 'we'"]}
    high = {"start": 10, "end": 20, "ai_probability": 0.9, "confidence_level": "HIGH", "reasons": ["even rhythm"]}
    report.texts = [Text(report.rows[0], {"text": "x" * 30, "segments": [low, high]})]
    page = render(report).decode()
    assert "0.10 low; speaks for a person: frequent" in page
    assert "0.90 high; speaks for a model: even rhythm" in page
    assert "at least 0.90 in common" in page
    assert "Jaccard" in page


def test_it_says_what_the_number_cannot_claim() -> None:
    page = render(evil_report()).decode()
    assert "What the number can and cannot claim" in page
    assert "It cannot" in page
    assert "<svg" in page


def test_ten_thousand_documents_stay_a_page() -> None:
    report = Report(dict(JOB), "many")  # type: ignore[arg-type]
    report.rows = [row(number, 0.9, number % 40, "folder/" + "n" * 60 + f"{number}.txt") for number in range(MAX_ROWS)]
    report.statuses["COMPLETED"] = 25_000
    text = {"text": "word " * 60_000, "segments": []}
    report.texts = [Text(one, text) for one in report.rows[:200]]
    report.collection = analyzer_pb2.Collection(cluster_matrix=analyzer_pb2.Matrix(size=200, values=[0.5] * 40_000))
    page = render(report)
    assert len(page) < 15_000_000
    assert b"The first 10,000 of 25,000 documents" in page
    assert b"of 25,000 documents are here" in page


def test_texts_past_the_bound_are_left_out_and_counted() -> None:
    text = {"text": "<" * 30_000, "segments": []}
    made, cut = articles([Text(row(number), text) for number in range(200)])
    assert 0 < len(made) < 200
    assert len(made) + cut == 200
    assert sum(map(len, made)) <= MAX_TOTAL


def test_the_notable_documents_are_the_highest_and_one_of_each_cluster() -> None:
    rows = [row(number, number / 1000, number % 7) for number in range(1, 1001)]
    members = {cluster: [one for one in rows if one.cluster_id == cluster][:1] for cluster in range(7)}
    chosen = {one.id for one in notable(rows, members, [500, 501])}
    assert {1000, 950, 500, 501} <= chosen
    assert {group[0].id for group in members.values()} <= chosen
    assert len(chosen) <= 200
    assert notable(rows[:5], {}, []) == rows[:5]


def test_the_image_of_a_large_matrix_is_a_png_of_its_values() -> None:
    data = png([bytes([0, 255]), bytes([255, 0])], 2, 2)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (2, 2)
    at = data.index(b"IDAT")
    assert zlib.decompress(data[at + 4 : -12 - 4]) == b"\0\0\xff\0\xff\0"
    many = heatmap([0.5] * 10_000, 100, [Label("0", 0, 60), Label("1", 60, 100)], [])
    assert "data:image/png;base64," in many
    few = heatmap([1, -0.2, 0.3, 1], 2, [], ["a", "<b>"])
    assert few.count("<title>") == 4
    assert "&lt;b&gt;" in few
