"""PDF, DOCX and HTML through the child process, with its bounds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

import pytest

from tests.unit.processors.samples import docx_of, html_bomb, pdf_bomb, pdf_of
from worker.processors.extract_child import Extractor
from worker.processors.extract_text import Unreadable

MIB = 1 << 20


def children() -> set[str]:
    """The processes that this one has started and not reaped."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread of an earlier test that has just ended
            found.update((task / "children").read_text().split())
    return found


async def extracted(
    folder: Path, kind: str, data: bytes, *, seconds: float = 20.0, memory_bytes: int = 512 * MIB
) -> str:
    place = folder / "document"
    place.write_bytes(data)
    extractor = Extractor(seconds, memory_bytes, asyncio.Semaphore(2))
    with place.open("rb") as file:
        return await extractor.text(kind, file)


async def test_pdf(tmp_path: Path) -> None:
    assert await extracted(tmp_path, "pdf", pdf_of("Hello pages", "and more")) == "Hello pages\n\nand more"


async def test_docx_with_its_tables_in_order(tmp_path: Path) -> None:
    text = await extracted(tmp_path, "docx", docx_of("First é", "Second", table=("left", "right")))
    assert [line for line in text.split("\n") if line] == ["First é", "Second", "left", "right"]


async def test_html_without_its_scripts(tmp_path: Path) -> None:
    page = """<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html><html><head><title>T</title><style>p{}</style></head>
    <body><h1>Head</h1><p>One   <b>bold</b> word.<br>Next</p><!-- not this --><script>alert("no")</script>
    <ul><li>a<li>b &amp; c</ul>tail é</body></html>"""
    assert (await extracted(tmp_path, "html", page.encode())).split() == [
        "Head",
        "One",
        "bold",
        "word.",
        "Next",
        "a",
        "b",
        "&",
        "c",
        "tail",
        "é",
    ]


@pytest.mark.parametrize(
    "data",
    [
        "<html><body>café".encode(),
        '<meta charset="iso-8859-1"><p>café'.encode("latin-1"),
        "<p>café".encode("utf-16"),
        '<meta http-equiv="Content-Type" content="text/html; charset=windows-1252"><p>café'.encode("cp1252"),
    ],
)
async def test_html_in_its_encoding(tmp_path: Path, data: bytes) -> None:
    assert await extracted(tmp_path, "html", data) == "café"


@pytest.mark.parametrize("depth", [200, 2_000])
async def test_html_nests_deep(tmp_path: Path, depth: int) -> None:
    assert "text at the bottom" in await extracted(tmp_path, "html", html_bomb(depth))


async def test_html_that_nests_too_deep_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"^too deep .*: Excessive depth in document: 2048$"):
        await extracted(tmp_path, "html", b"<p>first</p>" + html_bomb(200_000))


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("pdf", b"%PDF-1.4 nothing", "broken PDF"),
        ("pdf", b"", "broken PDF"),
        ("pdf", pdf_of(""), "no text"),
        ("docx", b"PK\x03\x04 nothing", "broken DOCX"),
        ("docx", docx_of(), "empty"),
        ("html", b"  ", "empty"),
        ("html", b"<html><script>only</script></html>", "empty"),
    ],
)
async def test_what_has_no_text_says_why(tmp_path: Path, kind: str, data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        await extracted(tmp_path, kind, data)


async def test_a_bomb_meets_the_bound_of_memory(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"memory|broken PDF|limit"):
        await extracted(tmp_path, "pdf", pdf_bomb(300), memory_bytes=128 * MIB)


async def test_a_slow_file_meets_the_bound_of_time_and_leaves_no_process(tmp_path: Path) -> None:
    before, bomb = children(), pdf_bomb(30)
    started = time.monotonic()
    with pytest.raises(Unreadable, match=r"longer than 0\.5 s"):
        await extracted(tmp_path, "pdf", bomb, seconds=0.5)
    assert time.monotonic() - started < 20
    assert children() == before
