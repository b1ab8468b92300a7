"""Archives: hostile ones are refused by kind, quickly, in little memory; honest ones are read."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import InvalidInput, PenstockError, TooLarge
from penstock.runtime.settings import UploadLimits
from planner.intake import ArchiveIntake, Taken
from planner.staging import Staging
from tests.unannounced import unannounced
from tests.unit.planner.archives import HOSTILE, Entry, archive

LIMITS = UploadLimits(max_documents=1_000, max_document_bytes=10 << 20, max_upload_bytes=64 << 20)
TOO_MUCH = {"too_large", "too_many_documents"}


def take(blobs: BlobStore, data: bytes, limits: UploadLimits = LIMITS) -> tuple[Taken, list[dict[str, object]]]:
    staging = Staging(blobs, unannounced)
    try:
        with staging.upload() as upload:
            intake = ArchiveIntake(upload, limits)
            intake.begin("a.zip")
            intake.write(data)
            taken = intake.finish(threading.Event())
            return taken, [json.loads(json.loads(line)["payload"]) for line in taken.rows.read_bytes().splitlines()]
    finally:
        staging.close()


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_archive_is_refused_by_its_kind_and_leaves_nothing(kind: str, tmp_path: Path) -> None:
    code, make = HOSTILE[kind]
    with pytest.raises(TooLarge if code in TOO_MUCH else InvalidInput) as told:
        take(BlobStore(tmp_path), make())
    assert told.value.code == code, told.value.message
    assert len(told.value.message) > 20
    assert files_in(tmp_path) == []


def test_every_kind_has_its_own_sentence(tmp_path: Path) -> None:
    sentences: dict[str, set[str]] = {}
    for code, make in HOSTILE.values():
        with pytest.raises(PenstockError) as told:
            take(BlobStore(tmp_path), make())
        sentences.setdefault(code, set()).add(told.value.message)
    assert len(sentences) > 20
    told_twice = [a for a in sentences for b in sentences if a < b and sentences[a] & sentences[b]]
    assert told_twice == []


PROGRAM = """
import re, sys, time
from pathlib import Path
from tests.unit.planner.archives import HOSTILE
from tests.unit.planner.test_archives import LIMITS, take
from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import PenstockError
folder = Path(sys.argv[1])
data = (folder / "input").read_bytes()
blobs = BlobStore(folder / "blobs")
def peak_mebibytes():
    # Not ru_maxrss: that begins with what the process which started this one had.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
try:
    take(blobs, b"no archive")
except PenstockError:
    pass
before = peak_mebibytes()
started = time.process_time()
try:
    take(blobs, data)
    print("taken")
except PenstockError as error:
    print(error.code)
print(time.process_time() - started)
print(peak_mebibytes() - before)
"""

COSTLY = {
    "bomb": HOSTILE["bomb"],
    "bomb that lies about its size": HOSTILE["bomb that lies about its size"],
    "overlapping bomb": HOSTILE["overlapping bomb"],
    "a million entries": HOSTILE["a million entries"],
    "too many documents": HOSTILE["too many documents"],
}


@pytest.mark.parametrize("kind", COSTLY)
def test_a_refusal_takes_less_than_2_seconds_and_64_mebibytes(kind: str, tmp_path: Path) -> None:
    code, make = COSTLY[kind]
    (tmp_path / "input").write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    told, seconds, mebibytes = done.stdout.split()
    assert told == code
    assert float(seconds) < 2
    assert float(mebibytes) < 64


def test_a_full_directory_of_the_default_bounds_is_checked_in_little_memory(tmp_path: Path) -> None:
    names = [Entry(b"folder/%06d.txt" % i, b"x", method=0) for i in range(100_000)]
    (tmp_path / "input").write_bytes(archive([*names, names[0]], zip64=True))
    program = PROGRAM.replace("take(blobs, data)", "take(blobs, data, UploadLimits())").replace(
        "import re,", "from penstock.runtime.settings import UploadLimits\nimport re,", 1
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    told, seconds, mebibytes = done.stdout.split()
    assert told == "zip_duplicate"
    assert float(seconds) < 2
    assert float(mebibytes) < 64


def test_an_honest_archive_is_read_in_its_order(tmp_path: Path) -> None:
    data = archive(
        [
            Entry(b"folder/", b"", method=0),
            Entry(b"folder/b.txt", b"stored", method=0),
            Entry(b"__MACOSX/folder/._b.txt", b"\x00" * 4_000),
            Entry(b".DS_Store", b"\x00" * 1_000_000),
            Entry(b"a.txt", b"streamed", flags=8),
            Entry("é.md".encode(), b"named without the flag"),
            Entry(b"\x81.md", b"named in the old way"),
            Entry(b"empty.txt", b"", method=0),
            Entry(b"picture.png", b"\x89PNG"),
            Entry(b"large.txt", bytes(range(256)) * 44_000, method=0),
        ],
        comment=b"made by hand",
    )
    taken, payloads = take(BlobStore(tmp_path), data)
    assert [p["filename"] for p in payloads] == [
        *("folder/b.txt", "a.txt", "é.md", "ü.md", "empty.txt", "picture.png", "large.txt"),
    ]
    assert (taken.count, taken.ignored) == (7, 3)
    assert payloads[-1]["problem"] == "too large: 10.8 MiB, at most 10 MiB"
    assert "blob" not in payloads[-1]


def test_archives_of_the_standard_library_are_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.mkdir("d")
        for i in range(50):
            made.writestr(f"d/{i}.txt", f"text {i} " * 100)
        with made.open("wide.txt", "w", force_zip64=True) as file:
            file.write(b"zip64")
    taken, payloads = take(BlobStore(tmp_path), buffer.getvalue())
    assert (taken.count, taken.ignored) == (51, 1)
    assert payloads[-1]["filename"] == "wide.txt"


def test_a_zip64_directory_is_read(tmp_path: Path) -> None:
    taken, _ = take(BlobStore(tmp_path), archive([Entry(b"a.txt")], zip64=True))
    assert taken.count == 1


def test_a_page_of_blanks_is_no_bomb(tmp_path: Path) -> None:
    taken, _ = take(BlobStore(tmp_path), archive([Entry(b"a.txt", b" " * 60_000)]))
    assert taken.count == 1


def test_bytes_after_an_archive_are_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="100 foreign bytes after its end"):
        take(BlobStore(tmp_path), archive([Entry(b"a.txt")], comment=b"mine") + b"junk" * 25)
