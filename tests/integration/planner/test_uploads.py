"""Uploads are kept whole or refused whole, and nothing of a refused one stays."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import duckdb
import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import InvalidInput, Overloaded, PenstockError, TooLarge, Unavailable
from penstock.runtime.settings import UploadLimits
from penstock.v1 import planner_pb2
from planner import staging, uploads
from planner.parquet import Parquet
from tests.integration.planner.conftest import Planner
from tests.unannounced import unannounced
from tests.unit.planner.archives import HOSTILE, Entry, archive

Part = planner_pb2.CreateSourceRequest
SMALL = UploadLimits(max_documents=3, max_document_bytes=1_000, max_upload_bytes=10_000)


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What is told here does not depend on the database."""
    return sqlite_url


def header(kind: planner_pb2.SourceKind.ValueType = planner_pb2.SOURCE_KIND_DOCUMENTS, *, packed: bool = False) -> Part:
    return Part(header=Part.Header(kind=kind, zip=packed))


def file(name: str) -> Part:
    return Part(file=Part.File(name=name))


async def test_an_archive_becomes_documents(planner: Planner) -> None:
    source = await planner.archive(archive([Entry(b"d/", b"", method=0), Entry(b"d/a.txt", b"one"), Entry(b"b.md")]))
    assert (source.item_count, source.ignored_count, source.size_bytes) == (2, 1, 3 + len(b"some text"))
    again = await planner.archive(archive([Entry(b"d/a.txt", b"one"), Entry(b"b.md")]))
    assert (again.source_id, again.ignored_count) == (source.source_id, 0)
    files = await planner.files([("d/a.txt", b"one"), ("b.md", b"some text")])
    assert files.source_id == source.source_id


@pytest.mark.parametrize("limits", [UploadLimits(max_documents=1_000, max_upload_bytes=64 << 20)])
@pytest.mark.parametrize("kind", ["parent", "bomb", "encrypted", "truncated", "wrong checksum", "too many documents"])
async def test_a_hostile_archive_is_refused_and_leaves_nothing(planner: Planner, kind: str) -> None:
    code, make = HOSTILE[kind]
    with pytest.raises(PenstockError) as told:
        await planner.archive(make())
    assert told.value.code == code
    assert planner.left_behind() == set()


@pytest.mark.parametrize("limits", [SMALL])
async def test_bounds_refuse_the_upload_or_fail_the_document_alone(planner: Planner) -> None:
    with pytest.raises(TooLarge, match="more than 3 documents") as told:
        await planner.files([(f"{i}.txt", b"x") for i in range(4)])
    assert told.value.code == "too_many_documents"
    with pytest.raises(TooLarge, match="larger than 10,000 bytes"):
        await planner.files([("a.txt", b"x" * 5_000), ("b.txt", b"x" * 5_001)])
    with pytest.raises(TooLarge, match="larger than 10,000 bytes"):
        await planner.archive(b"x" * 10_001)
    with pytest.raises(TooLarge):
        await planner.items(b'{"key":"a"}\n' * 2_000)
    assert planner.left_behind() == set()
    source = await planner.files([("a.txt", b"x" * 1_000), ("b.txt", b"x" * 1_001)])
    plan = await planner.plan(source.source_id)
    fits, large = (await planner.read(plan.plan_id)).items
    assert b"problem" not in fits.payload
    assert b'"problem":"too large: 1,001 bytes, at most 1,000 bytes"' in large.payload
    assert b"blob" not in large.payload


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([], "no document"),
        ([("", b"x")], "has no name"),
        ([("a\x00.txt", b"x")], "NUL"),
        ([("n" * 1_001, b"x")], "1,001 characters"),
        ([("a.txt", b"x"), ("b\x07.txt", b"x")], "file 2 of the upload"),
    ],
)
async def test_files_that_are_refused(planner: Planner, files: list[tuple[str, bytes]], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        await planner.files(files)
    assert planner.left_behind() == set()


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [file("a.txt")],
        [header(), Part(chunk=b"x")],
        [header(), header()],
        [header(), file("a.txt"), Part(chunk=b"x" * ((1 << 20) + 1))],
        [header(), file("a.txt"), Part()],
        [header(planner_pb2.SOURCE_KIND_UNSPECIFIED), file("a.txt")],
        [header(planner_pb2.SOURCE_KIND_ITEMS, packed=True), file("a.txt")],
        [header(packed=True), file("a.zip"), file("b.zip")],
        [header(packed=True)],
        [header(planner_pb2.SOURCE_KIND_ITEMS), file("a"), Part(chunk=b'{"key":"a"}'), file("b")],
        [header(planner_pb2.SOURCE_KIND_ITEMS), file("a")],
    ],
)
async def test_streams_that_break_the_contract_are_refused(planner: Planner, parts: list[Part]) -> None:
    with pytest.raises(InvalidInput):
        await planner.send(parts)
    assert planner.left_behind() == set()


async def test_bad_lines_and_keys_that_stand_twice_are_told_together(planner: Planner) -> None:
    data = b'{"key":"a"}\n\n{"key":"b"}\nbad\n{"key":"a"}\n{"key":"a"}\n{"key":"b"}\n'
    with pytest.raises(InvalidInput) as told:
        await planner.items(data)
    for part in (
        "line 4: not JSON at character 1",
        "line 5: key 'a' stands in line 1",
        "line 7: key 'b' stands in line 3",
    ):
        assert part in told.value.message
    with pytest.raises(
        InvalidInput,
        match=r"^the items are refused: line 5: key 'a' "
        "stands in line 1 already; line 7:",
    ):
        await planner.items(data.replace(b"bad\n", b'{"key":"c"}\n'))
    assert planner.left_behind() == set()


async def test_a_client_that_leaves_leaves_nothing(planner: Planner) -> None:
    sent = asyncio.Event()

    async def parts() -> AsyncIterator[Part]:
        yield header()
        for i in range(600):
            yield file(f"{i}.txt")
            yield Part(chunk=b"x" * 100)
        sent.set()
        await asyncio.Event().wait()

    call = planner.stub.CreateSource(parts())
    await sent.wait()
    call.cancel()
    for _ in range(1_000):
        if not planner.left_behind() and not any(p.is_dir() for p in planner.blobs.glob(".planner/*/*")):
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError(planner.left_behind())


async def test_a_client_that_sends_nothing_is_given_up(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "IDLE_SECONDS", 0.2)

    async def parts() -> AsyncIterator[Part]:
        yield header()
        yield file("a.txt")
        await asyncio.Event().wait()

    with pytest.raises(Unavailable, match="sent nothing") as told:
        await planner.send(parts())
    assert told.value.code == "upload_idle"
    assert planner.left_behind() == set()


async def test_an_upload_waits_for_its_turn_and_not_for_ever(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = asyncio.Semaphore(0)
    go_on = asyncio.Event()

    async def parts(name: str) -> AsyncIterator[Part]:
        yield header()
        yield file(name)
        begun.release()
        await go_on.wait()

    busy = [asyncio.ensure_future(planner.send(parts(f"{number}.txt"))) for number in range(8)]
    async with asyncio.timeout(10):
        for _ in busy:
            await begun.acquire()
    monkeypatch.setattr(uploads, "TURN_SECONDS", 0.2)
    with pytest.raises(Overloaded, match="8 uploads are under way") as told:
        await planner.files([("a.txt", b"x")])
    assert told.value.code == "uploads_busy"
    monkeypatch.setattr(uploads, "TURN_SECONDS", 10.0)
    waiting = asyncio.ensure_future(planner.files([("a.txt", b"x")]))
    go_on.set()
    assert len({source.source_id for source in await asyncio.gather(waiting, *busy)}) == 9


async def test_a_full_disk_is_said_plainly(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> int:
        ctypes.set_errno(errno.ENOSPC)
        return -1

    with monkeypatch.context() as patch:
        patch.setattr("penstock.runtime.blobs._SYNCFS", full)
        with pytest.raises(Unavailable, match=r"disk of the blob store .* is full: free some space") as told:
            await planner.files([("a.txt", b"x")])
        assert told.value.code == "disk_full"
    assert planner.left_behind() == set()
    assert (await planner.files([("a.txt", b"x")])).item_count == 1


def test_a_full_disk_under_the_parquet_writer_is_said_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tmp_path / "rows"
    rows.write_bytes(b'{"key":"a","group":"","payload":"{}"}\n' * 1_000)
    # Our own connection would not open a device.
    monkeypatch.setattr("penstock.runtime.parquet_files.ParquetFiles._connect", lambda files: duckdb.connect())
    parquet = Parquet(tmp_path)
    with pytest.raises(Unavailable) as told:
        parquet.write_snapshot(rows, Path("/dev/full"))
    parquet.close()
    assert told.value.code == "disk_full"


def test_nothing_outside_the_blob_folder_is_opened(tmp_path: Path) -> None:
    folder, outside = tmp_path / "blobs", tmp_path / "outside"
    folder.mkdir()
    rows = folder / "rows"
    rows.write_bytes(b'{"key":"a","group":"","payload":"{}"}\n')
    (tmp_path / "link").symlink_to(folder)
    parquet = Parquet(tmp_path / "link")
    parquet.write_snapshot(tmp_path / "link" / "rows", tmp_path / "link" / "it's here")
    assert not parquet.has_duplicates(tmp_path / "link" / "it's here")
    with pytest.raises(duckdb.PermissionException):
        parquet.write_snapshot(rows, outside)
    with pytest.raises(duckdb.PermissionException):
        parquet.has_duplicates(Path("/etc/passwd"))
    parquet.close()
    assert not outside.exists()


async def test_a_folder_that_can_not_be_written_makes_it_unready(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, *_: object, **__: object) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(Unavailable, match="Permission denied"):
        await planner.service.checks["blobs"]()


LEAVER = """
import os, sys
from pathlib import Path
from penstock.runtime.blobs import BlobStore, BlobWriter
from penstock.runtime.settings import UploadLimits
from planner.intake import FilesIntake
from planner.staging import Staging
with Staging(BlobStore(Path(sys.argv[1])), print).upload() as upload:
    intake = FilesIntake(upload, UploadLimits())
    intake.begin("a.txt")
    intake.write(b"x" * 1_000_000)
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_planner_left_goes_with_the_next_start(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    working = staging.Staging(blobs, unannounced)
    with working.upload() as upload:
        upload.open("archive").close()
        subprocess.run([sys.executable, "-c", LEAVER, str(tmp_path)], check=False, timeout=60)
        sessions = set((tmp_path / ".planner").iterdir())
        assert len(sessions) == 2
        started = staging.Staging(blobs, unannounced)
        assert started.clean() == 1
        assert set((tmp_path / ".planner").iterdir()) == {working.session, started.session}
        assert upload.path("archive").exists()
        started.close()
    working.close()
    assert list((tmp_path / ".planner").iterdir()) == []


async def test_what_killed_writers_left_among_the_blobs_goes_with_a_sweep(planner: Planner) -> None:
    left = planner.blobs / ".tmp" / "left"
    left.write_bytes(b"half a blob")
    os.utime(left, (0, 0))
    sweep = asyncio.ensure_future(planner.service.loops["sweep"]())
    async with asyncio.timeout(10):
        while left.exists():  # noqa: ASYNC110  # a file that goes tells nobody
            await asyncio.sleep(0.01)
    sweep.cancel()
    assert planner.left_behind() == set()


async def test_uploads_side_by_side_do_not_meet(planner: Planner) -> None:
    def mine(number: int) -> Iterator[tuple[str, bytes]]:
        return ((f"{i}.txt", b"%d %d" % (number, i)) for i in range(300))

    sources = await asyncio.gather(*(planner.files(list(mine(number))) for number in range(12)))
    assert len({source.source_id for source in sources}) == 12
    assert {source.item_count for source in sources} == {300}
