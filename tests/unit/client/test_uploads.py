"""What is uploaded of files and folders, and in which pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.client.uploads import (
    CHUNK_BYTES,
    counting,
    document_parts,
    file_parts,
    item_parts,
    listed,
    table_files,
)
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import planner_pb2

Part = planner_pb2.CreateSourceRequest


def collected(parts: AsyncIterator[Part]) -> list[Part]:
    async def all_of() -> list[Part]:
        return [part async for part in parts]

    return asyncio.run(all_of())


def files_of(parts: list[Part]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    name = ""
    for part in parts:
        if part.HasField("file"):
            name = part.file.name
            files[name] = b""
        elif part.HasField("chunk"):
            files[name] += part.chunk
    return files


def test_a_folder_is_walked_and_names_are_paths_inside_it(tmp_path: Path) -> None:
    for name in ("b.txt", "a/x.md", "a/.hidden", ".git/config", "__MACOSX/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [name for name, _ in listed([tmp_path])] == ["b.txt", "a/x.md"]
    assert [name for name, _ in listed([tmp_path / "a" / "x.md"])] == ["x.md"]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file or folder"):
        listed([tmp_path / "nowhere"])
    with pytest.raises(InvalidInput, match="no documents"):
        listed([tmp_path])


def test_files_come_whole_and_in_order_whatever_their_size(tmp_path: Path) -> None:
    sizes = {"a": 0, "b": 10, "c": CHUNK_BYTES, "d": CHUNK_BYTES + 1, "e": 3 * CHUNK_BYTES + 5, "f": 7}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(name.encode() * size)
    parts = collected(document_parts(listed([tmp_path]), archive=False, request_id="r-1"))
    assert parts[0].header.kind == planner_pb2.SOURCE_KIND_DOCUMENTS
    assert parts[0].header.request_id == "r-1"
    assert files_of(parts) == {name: name.encode() * size for name, size in sizes.items()}
    assert list(files_of(parts)) == sorted(sizes)
    assert max(len(part.chunk) for part in parts) <= 1 << 20


def test_items_are_sent_as_json_lines() -> None:
    items = [{"key": f"k{n}", "payload": {"text": "x" * 1000}} for n in range(2000)]
    parts = collected(item_parts(items, request_id="r"))
    lines = files_of(parts)["items.jsonl"].splitlines()
    assert len(lines) == 2000
    assert lines[3].startswith(b'{"key":"k3"')
    assert max(len(part.chunk) for part in parts) <= 1 << 20


def test_a_missing_items_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        collected(item_parts(tmp_path / "none.jsonl", request_id="r"))


def test_an_upload_tells_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x" * (2 * CHUNK_BYTES + 1))
    (tmp_path / "b.csv").write_bytes(b"y" * 10)
    files = table_files([tmp_path / "a.csv", tmp_path / "b.csv"])
    total = 2 * CHUNK_BYTES + 11
    told: list[tuple[int, int]] = []
    header = Part.Header(kind=planner_pb2.SOURCE_KIND_CATALOG, name="x")
    parts = collected(counting(file_parts(header, files), total, lambda sent, of: told.append((sent, of))))
    assert parts[0].header.name == "x"
    assert files_of(parts) == {"a.csv": b"x" * (2 * CHUNK_BYTES + 1), "b.csv": b"y" * 10}
    assert told == sorted(told)
    assert told[-1] == (total, total)


def test_a_catalog_of_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="there is no file"):
        table_files([tmp_path])
