"""The documents contract, route by route, over the real programs."""

from __future__ import annotations

import csv
import io
import zipfile
from typing import Any

import httpx
import pytest

from tests.integration.gateway.conftest import BREAD, ENGLISH, documents, ended

STATUS_FIELDS = {
    "job_id",
    "run_id",
    "status",
    "total_documents",
    "processed_documents",
    "granularity",
    "created_at",
    "started_at",
    "completed_at",
    "error_message",
    "progress",
}


def zipped(*files: tuple[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return data.getvalue()


def test_an_upload_answers_at_once_with_a_durable_job(http: httpx.Client) -> None:
    answer = http.post("/api/batch/upload", files=documents(("a.txt", ENGLISH.encode())))
    assert answer.status_code == 200
    told = answer.json()
    assert set(told) == {"job_id", "status", "run_id"}
    assert told["status"] == "PENDING"
    assert isinstance(told["job_id"], int)
    assert ended(http, told["job_id"])["granularity"] == "sentence"


def test_the_status_object(job: dict[str, Any]) -> None:
    assert set(job) == STATUS_FIELDS
    assert job["status"] == "COMPLETED"
    assert (job["total_documents"], job["processed_documents"], job["progress"]) == (5, 5, 100)
    assert job["granularity"] == "paragraph"
    assert job["error_message"] is None
    assert job["created_at"] <= job["started_at"] <= job["completed_at"]


def test_results(http: httpx.Client, job: dict[str, Any]) -> None:
    told = http.get(f"/api/batch/{job['job_id']}/results").json()
    assert set(told) == {"job", "documents", "clusters", "similarity_matrix", "cluster_matrix"}
    assert told["job"] == job
    rows = told["documents"]
    assert {row["filename"] for row in rows} == {
        "harbour.txt",
        "folder/harbour again.md",
        "bread.txt",
        "empty.txt",
        "=cmd.txt",
    }
    assert [row["status"] for row in rows] == ["COMPLETED"] * 4 + ["FAILED"]
    assert rows[-1]["filename"] == "empty.txt"
    assert "empty" in rows[-1]["error"]
    assert rows[-1]["cluster_id"] is None
    matrix = told["similarity_matrix"]
    assert len(matrix) == 4
    at = {row["filename"]: index for index, row in enumerate(rows)}
    alike = matrix[at["harbour.txt"]][at["folder/harbour again.md"]]
    assert alike > matrix[at["harbour.txt"]][at["bread.txt"]]
    assert all(matrix[n][n] == pytest.approx(1, abs=0.002) for n in range(4))
    assert all(value == round(value, 3) for row in matrix for value in row)


def test_one_document_is_a_valid_batch(http: httpx.Client) -> None:
    answer = http.post("/api/batch/upload", files=documents(("alone.txt", BREAD.encode())))
    told = ended(http, answer.json()["job_id"])
    assert told["status"] == "COMPLETED"
    results = http.get(f"/api/batch/{told['job_id']}/results").json()
    assert results["clusters"] == []
    assert results["similarity_matrix"] == [[1]]
    assert results["documents"][0]["cluster_id"] is None


def test_a_paused_job_is_processing_and_a_stopped_one_failed(http: httpx.Client) -> None:
    files = documents(*((f"{number}.txt", f"{ENGLISH} {number}".encode()) for number in range(400)))
    told = http.post("/api/batch/upload", files=files).json()
    run = f"/api/v1/runs/{told['run_id']}"
    assert http.post(f"{run}/pause").status_code == 200
    status = http.get(f"/api/batch/{told['job_id']}/status").json()
    assert status["status"] in ("PENDING", "PROCESSING")
    assert status["progress"] < 100
    rows = http.get(f"/api/batch/{told['job_id']}/results").json()["documents"]
    assert len(rows) == 400
    http.post(f"{run}/stop", json={"force": True})
    status = ended(http, told["job_id"])
    assert status["status"] == "FAILED"
    assert status["progress"] < 100
    assert "stop" in status["error_message"]
    rows = http.get(f"/api/batch/{told['job_id']}/results").json()["documents"]
    assert {row["status"] for row in rows} <= {"COMPLETED", "FAILED"}
    assert http.get(f"/api/batch/{told['job_id']}/export?format=csv").status_code == 200
    assert http.get(f"/api/batch/{told['job_id']}/report").status_code == 200


def test_a_document(http: httpx.Client, job: dict[str, Any]) -> None:
    rows = http.get(f"/api/batch/{job['job_id']}/results").json()["documents"]
    number = next(row["id"] for row in rows if row["filename"] == "harbour.txt")
    told = http.get(f"/api/batch/{job['job_id']}/documents/{number}").json()
    assert set(told) == {
        "id",
        "filename",
        "text",
        "word_count",
        "ai_probability",
        "confidence_level",
        "confidence_distribution",
        "cluster_id",
        "status",
        "error",
        "segments",
        "features",
        "neighbours",
    }
    assert told["text"] == ENGLISH
    assert told["segments"]
    for segment in told["segments"]:
        assert set(segment) == {"start", "end", "ai_probability", "confidence_level", "reasons"}
        assert 0 <= segment["start"] < segment["end"] <= len(ENGLISH)
    assert sum(told["confidence_distribution"].values()) == len(told["segments"])
    assert told["neighbours"][0]["filename"] == "folder/harbour again.md"
    assert set(told["neighbours"][0]) == {"id", "filename", "similarity"}


def test_exports_are_attachments(http: httpx.Client, job: dict[str, Any]) -> None:
    answer = http.get(f"/api/batch/{job['job_id']}/export", params={"format": "csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"].startswith("attachment")
    rows, summary = answer.text.split("\n\n")
    table = list(csv.DictReader(io.StringIO(rows)))
    assert len(table) == 5
    assert {row["filename"] for row in table} >= {"'=cmd.txt", "empty.txt"}
    assert f"job_id,{job['job_id']}" in summary
    answer = http.get(f"/api/batch/{job['job_id']}/export", params={"format": "json"})
    assert answer.headers["content-disposition"].startswith("attachment")
    assert len(answer.json()["documents"]) == 5
    answer = http.get(f"/api/batch/{job['job_id']}/export", params={"format": "xml"})
    assert answer.status_code == 400
    assert answer.json()["code"] == "bad_format"


def test_the_report_is_one_page(http: httpx.Client, job: dict[str, Any]) -> None:
    answer = http.get(f"/api/batch/{job['job_id']}/report")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert "Five documents" in answer.text
    assert "<svg" in answer.text
    assert "Patient Margaret" in answer.text


def test_jobs_are_an_array_newest_first(http: httpx.Client, job: dict[str, Any]) -> None:
    listed = http.get("/api/batch/jobs").json()
    assert [one["job_id"] for one in listed] == sorted((one["job_id"] for one in listed), reverse=True)
    assert job in listed
    assert set(listed[0]) == STATUS_FIELDS
    assert http.get("/api/batch/jobs", params={"skip": 1, "limit": 1}).json() == listed[1:2]
    for bad in ({"limit": "0"}, {"skip": "-1"}, {"limit": "many"}):
        answer = http.get("/api/batch/jobs", params=bad)
        assert answer.status_code == 400
        assert next(iter(bad)) in answer.json()["detail"]


def test_a_zip_with_the_granularity_in_the_query(http: httpx.Client) -> None:
    archive = zipped(("in/a.txt", ENGLISH.encode()), ("__MACOSX/a.txt", b"x"), ("b.txt", BREAD.encode()))
    answer = http.post("/api/batch/upload?granularity=paragraph", files={"zip_file": ("a.zip", archive)})
    told = ended(http, answer.json()["job_id"])
    assert (told["total_documents"], told["granularity"]) == (2, "paragraph")


@pytest.mark.parametrize(
    ("files", "data", "detail"),
    [
        ([], {}, "Either files or zip_file must be provided"),
        ([], {"granularity": "sentence"}, "Either files or zip_file must be provided"),
        (
            [("files", ("a.txt", b"x")), ("zip_file", ("a.zip", zipped(("b.txt", b"x"))))],
            {},
            "Provide either files or zip_file, not both",
        ),
        (
            [("zip_file", ("a.zip", zipped(("b.txt", b"x")))), ("files", ("a.txt", b"x"))],
            {},
            "Provide either files or zip_file, not both",
        ),
        ([("files", ("a.txt", b"x"))], {"granularity": "word"}, None),
        ([("files", ("a.txt", b"x"))], {"name": "a\0b"}, "name has a NUL character, which no text may have"),
        ([("zip_file", ("a.zip", b"this is no archive"))], {}, None),
        ([("zip_file", ("a.zip", zipped(("../a.txt", b"x"))))], {}, None),
        ([("zip_file", ("a.zip", zipped()))], {}, None),
    ],
)
def test_bad_uploads_are_refused_whole(
    http: httpx.Client, files: list[Any], data: dict[str, str], detail: str | None
) -> None:
    before = http.get("/api/batch/jobs", params={"limit": 1}).json()
    answer = http.post("/api/batch/upload", files=files, data=data)
    assert answer.status_code == 400, answer.text
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(problem) == {"type", "title", "status", "detail", "code"}
    assert detail is None or problem["detail"] == detail
    assert http.get("/api/batch/jobs", params={"limit": 1}).json() == before


def test_granularity_is_refused_alike_wherever_it_stands(http: httpx.Client) -> None:
    def refused(query: str, data: dict[str, str]) -> tuple[int, str, str]:
        answer = http.post(f"/api/batch/upload{query}", files=documents(("a.txt", b"x")), data=data)
        return answer.status_code, answer.json()["code"], answer.json()["detail"]

    told = refused("?granularity=word", {})
    assert told == refused("", {"granularity": "word"})
    assert told[:2] == (400, "bad_granularity")
    conflict = refused("?granularity=sentence", {"granularity": "paragraph"})
    assert conflict[:2] == (400, "bad_granularity")
    assert "'sentence' and as 'paragraph'" in conflict[2]


def test_an_upload_that_is_no_form_at_all(http: httpx.Client) -> None:
    for answer in (
        http.post("/api/batch/upload"),
        http.post("/api/batch/upload", json={"files": []}),
        http.post("/api/batch/upload", data={"granularity": "sentence"}),
    ):
        assert answer.status_code == 400
        assert answer.json()["detail"] == "Either files or zip_file must be provided"
    answer = http.post("/api/batch/upload?granularity=word", files=documents(("a.txt", b"x")))
    assert answer.status_code == 400


@pytest.mark.parametrize("job_id", ["0", "-1", "999999", "99999999999999999999999", "abc", "1.5", "run-x"])
@pytest.mark.parametrize("route", ["status", "results", "export", "report", "events", "documents/1"])
def test_unknown_jobs_are_not_found(http: httpx.Client, job_id: str, route: str) -> None:
    answer = http.get(f"/api/batch/{job_id}/{route}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert job_id in answer.json()["detail"]


@pytest.mark.parametrize("document_id", ["0", "6", "-1", "x", "99999999999999999999"])
def test_unknown_documents_are_not_found(http: httpx.Client, job: dict[str, Any], document_id: str) -> None:
    assert http.get(f"/api/batch/{job['job_id']}/documents/{document_id}").status_code == 404
