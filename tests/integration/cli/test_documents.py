"""`penstock documents`: from files to results, on the terminal, as JSON, as files."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.integration.cli.conftest import Answer, Command
from tests.texts import make_documents


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "texts"
    make_documents(folder / "inner", 12, words=120, seed=3)
    (folder / "=formula.txt").write_bytes((folder / "inner" / "00000.txt").read_bytes())
    return folder


@pytest.fixture(scope="module")
def with_a_bad_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "mixed"
    make_documents(folder, 3, words=80, seed=4)
    (folder / "empty.txt").write_bytes(b"")
    return folder


def rows_of(table: Path) -> list[dict[str, str]]:
    head, _, _ = table.read_text().partition("\n\n")
    return list(csv.DictReader(io.StringIO(head)))


def test_a_folder_with_its_table_and_its_export(penstock: Command, texts: Path, tmp_path: Path) -> None:
    answer = penstock("documents", "analyze", texts, "--export", tmp_path / "out.csv", "--name", "folder")
    assert answer.code == 0, answer.err
    for part in ("COMPLETED", "documents       13", "Clusters", "Most similar", "inner/00003.txt", "=formula.txt"):
        assert part in answer.out, part
    rows = rows_of(tmp_path / "out.csv")
    assert len(rows) == 13
    assert {row["status"] for row in rows} == {"COMPLETED"}
    assert "'=formula.txt" in {row["filename"] for row in rows}
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"], "nothing half-written is left"


def test_a_zip_as_json(penstock: Command, texts: Path, tmp_path: Path) -> None:
    archive = tmp_path / "texts.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((texts / "inner").iterdir()):
            file.write(path, f"deep/{path.name}")
    out = tmp_path / "out.json"
    arguments = ("--zip", archive, "--granularity", "paragraph", "--export", out, "--json")
    answer = penstock("documents", "analyze", *arguments)
    assert answer.code == 0, answer.err
    results = answer.json()
    assert results["job"]["granularity"] == "paragraph"
    assert {row["filename"] for row in results["documents"]} == {f"deep/{i:05}.txt" for i in range(12)}
    assert json.loads(out.read_text())["job"]["job_id"] == results["job"]["job_id"]


def test_what_an_archive_has_beside_documents_is_told(penstock: Command, texts: Path, tmp_path: Path) -> None:
    archive = tmp_path / "mac.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(texts / "inner" / "00000.txt", "a.txt")
        file.writestr("__MACOSX/._a.txt", "x")
        file.writestr(".hidden.txt", "x")
    answer = penstock("documents", "analyze", "--zip", archive, "--no-wait")
    assert answer.code == 0, answer.err
    assert "ignored 2 entries of the archive" in answer.err
    assert "started: 1 document (" in answer.out


def test_started_only_then_listed_shown_and_read(penstock: Command, texts: Path) -> None:
    started = penstock("documents", "analyze", texts, "--no-wait", "--json")
    assert started.code == 0
    job = str(started.json()["job_id"])
    assert penstock("runs", "watch", job).code == 0
    assert started.json()["run_id"] in {one["run_id"] for one in penstock("documents", "list", "--json").json()}
    assert job in [line.split()[0] for line in penstock("documents", "list").out.splitlines()[1:]]
    shown = penstock("documents", "show", job, "--rows", "3")
    assert shown.code == 0
    assert "… and 10 more" in shown.out
    one = penstock("documents", "show", job, "--document", "2", "--json").json()
    assert one["id"] == 2
    assert one["segments"][0]["start"] == 0
    words = penstock("documents", "show", job, "--document", "2").out
    assert one["filename"] in words
    assert "speaks for a " in words


def test_a_document_that_fails_alone_makes_exit_code_3(penstock: Command, with_a_bad_one: Path) -> None:
    answer = penstock("documents", "analyze", with_a_bad_one)
    assert answer.code == 3, answer.err
    assert "1 failed" in answer.out
    line = next(line for line in answer.out.splitlines() if "empty.txt" in line)
    assert "FAILED" in line
    assert "empty" in line.split("FAILED")[1]


def test_nothing_but_bad_ones_makes_exit_code_1(penstock: Command, with_a_bad_one: Path) -> None:
    answer = penstock("documents", "analyze", with_a_bad_one / "empty.txt")
    assert answer.code == 1
    assert "FAILED (no document could be analysed" in answer.out


def refused(answer: Answer, words: str) -> None:
    assert answer.code == 2, answer
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1
    assert answer.out == ""


def test_bad_input_is_one_sentence(penstock: Command, texts: Path, tmp_path: Path) -> None:
    refused(penstock("documents", "analyze", tmp_path / "missing"), "missing")
    refused(penstock("documents", "analyze", tmp_path), "no documents")
    refused(penstock("documents", "analyze", texts, "--granularity", "word"), "sentence, paragraph")
    refused(penstock("documents", "analyze", texts, "--export", "out.xlsx"), ".csv or .json")
    refused(penstock("documents", "analyze", texts, "--export", tmp_path / "no" / "out.csv"), "no folder")
    refused(penstock("documents", "show", "99999"), "99999")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"PK\x03\x04 not an archive")
    refused(penstock("documents", "analyze", "--zip", broken), "archive")
    before = penstock("documents", "list", "--json").json()
    refused(penstock("documents", "analyze", broken), f"use --zip {broken}")
    refused(penstock("documents", "analyze", texts, broken), f"use --zip {broken}, alone")
    refused(penstock("documents", "analyze", "--zip", texts), f"{texts} is a folder")
    refused(penstock("documents", "analyze", texts, "--no-wait", "--export", tmp_path / "o.csv"), "documents show JOB")
    refused(penstock("documents", "analyze", "--zip", broken), "archive")
    assert penstock("documents", "list", "--json").json() == before, "nothing of it was kept"
