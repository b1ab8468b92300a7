"""A form becomes the planner's messages, however it is cut into network chunks; a bad one is refused with its own
sentence."""

from __future__ import annotations

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from gateway.forms import BOTH, NEITHER, Body, UploadForm
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2

BOUNDARY = "XyZ"


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    file = "" if filename is None else f'; filename="{filename}"'
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + data + b"\r\n"


END = f"--{BOUNDARY}--\r\n".encode()


def form(body: bytes, *, size: int = 1 << 16, accepts: tuple[str, ...] = ("files", "zip_file")) -> UploadForm:
    pieces = [body[at : at + size] for at in range(0, len(body), size)] or [b""]

    async def receive() -> Message:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    return UploadForm(Body(receive), BOUNDARY, "r-1", accepts)


async def sent(given: UploadForm) -> list[planner_pb2.CreateSourceRequest]:
    return [message async for message in given.parts()]


def files_of(messages: list[planner_pb2.CreateSourceRequest]) -> list[tuple[str, bytes]]:
    files: list[tuple[str, bytes]] = []
    for message in messages:
        if message.HasField("file"):
            files.append((message.file.name, b""))
        elif message.HasField("chunk"):
            name, data = files[-1]
            files[-1] = (name, data + message.chunk)
    return files


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 16])
async def test_files_pass_through_whole_however_they_are_cut(size: int) -> None:
    tricky = b"\r\n--Xy\r\n\r\n--" + bytes(range(256)) + b"\r\n-"
    body = part("files", b"one", "a.txt") + part("granularity", b"paragraph") + part("files", tricky, "b/ü \xe4.txt")
    given = form(body + part("files", b"", "empty.txt") + END, size=size)
    messages = await sent(given)
    assert messages[0].header.kind == planner_pb2.SOURCE_KIND_DOCUMENTS
    assert not messages[0].header.zip
    assert messages[0].header.request_id == "r-1"
    assert files_of(messages) == [("a.txt", b"one"), ("b/ü \xe4.txt", tricky), ("empty.txt", b"")]
    assert given.values == {"granularity": "paragraph"}


async def test_a_zip_is_one_archive() -> None:
    messages = await sent(form(part("zip_file", b"PK", "a.zip") + END))
    assert messages[0].header.zip
    assert files_of(messages) == [("a.zip", b"PK")]


async def test_plain_items_where_they_are_taken() -> None:
    given = form(part("items", b"{}", "a.jsonl") + END, accepts=("files", "zip_file", "items"))
    assert (await sent(given))[0].header.kind == planner_pb2.SOURCE_KIND_ITEMS


async def test_large_chunks_are_cut() -> None:
    messages = await sent(form(part("files", b"x" * 3_000_000, "a.txt") + END, size=3_000_100))
    assert max(len(message.chunk) for message in messages) <= 1 << 20
    assert len(files_of(messages)[0][1]) == 3_000_000


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", NEITHER),
        (END, NEITHER),
        (part("granularity", b"sentence") + END, NEITHER),
        (part("files", b"", "") + part("zip_file", b"", "") + END, NEITHER),
        (part("files", b"x", "a.txt") + part("zip_file", b"PK", "a.zip") + END, BOTH),
        (part("zip_file", b"PK", "a.zip") + part("files", b"x", "a.txt") + END, BOTH),
        (part("zip_file", b"PK", "a.zip") + part("zip_file", b"PK", "b.zip") + END, "one zip_file"),
        (part("files", b"x") + END, "must be a file"),
        (part("files", b"x", "a.txt"), "ends in the middle"),
        (part("files", b"x", "a.txt")[:-9], "ends in the middle"),
        (part("files", b"x", "a.txt") + part("granularity", b"word") + END, "sentence, paragraph"),
        (part("items", b"{}", "a.jsonl") + END, "no field 'items'"),
        (b"--XyZ\r\nContent-Disposition: form-data\r\n\r\nx\r\n" + END, "no name"),
        (b"no form at all", "can't be read"),
        (part("name", b"x" * 100_000) + part("files", b"x", "a") + END, "too long"),
    ],
)
async def test_bad_forms(body: bytes, detail: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await sent(form(body))
    assert detail in refusal.value.message


async def test_a_sender_that_goes_away_is_noticed() -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": part("files", b"x" * 100, "a.txt")[:80], "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    with pytest.raises(ClientDisconnect):
        await sent(UploadForm(Body(receive), BOUNDARY, "r-1"))
