"""A multipart form as it arrives, turned into the planner's message stream: bytes pass through, nothing is spooled.

The parser pushes; what it pushed out of one network chunk is handed on before the next is read, so a slow planner
slows the sender down and memory stays at some hundred kilobytes whatever the size of the form. What is wrong with the
form raises InvalidInput out of `parts`, which makes the caller cancel the call: the planner keeps nothing. A client
that goes away raises ClientDisconnect, to the same end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from penstock.client.documents import checked_granularity
from penstock.runtime.errors import InvalidInput
from penstock.runtime.plain_text import plain_text
from penstock.v1 import planner_pb2

__all__ = ["BOTH", "NEITHER", "Body", "UploadForm", "boundary_of"]

NEITHER = "Either files or zip_file must be provided"
BOTH = "Provide either files or zip_file, not both"

IDLE_SECONDS = 60.0
DRAIN_SECONDS = 30.0
DRAIN_BYTES = 1 << 30
MAX_VALUE_BYTES = 64 << 10
MAX_CHUNK_BYTES = 512 << 10
MAX_HEADER_BYTES = 16 << 10
FILE_FIELDS = ("files", "zip_file", "items")
VALUE_FIELDS = ("granularity", "name")

Part = planner_pb2.CreateSourceRequest


class Stalled(InvalidInput):
    """The sender stopped sending."""

    http_status = 408
    default_code = "stalled"


class Body:
    """The request's body, chunk by chunk."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.ended = False
        self.size_bytes = 0

    async def chunks(self) -> AsyncIterator[bytes]:
        """Raises ClientDisconnect, and Stalled after a minute without a byte."""
        while not self.ended:
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    message = await self._receive()
            except TimeoutError:
                raise Stalled(f"the upload stopped: no byte in {IDLE_SECONDS:g} s") from None
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            self.ended = not message.get("more_body", False)
            if message.get("body"):
                self.size_bytes += len(message["body"])
                yield message["body"]

    async def drain(self) -> None:
        """Reads on, up to a bound: most clients read an answer only after they have sent everything."""
        left = DRAIN_BYTES
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                async for chunk in self.chunks():
                    left -= len(chunk)
                    if left < 0:
                        return
        except (TimeoutError, Stalled, ClientDisconnect):
            return


def boundary_of(request: Request) -> str | None:
    """The form's boundary; None when the body is no multipart form. Raises InvalidInput for a form without one."""
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        return None
    boundary = options.get(b"boundary", b"").decode("latin-1")
    if not boundary:
        raise InvalidInput("the form has no boundary in its Content-Type", code="bad_form")
    return boundary


@dataclass(frozen=True)
class _Begin:
    name: str
    filename: str | None


_End = object()
_Event = _Begin | bytes | object


class _Parser:
    """python-multipart's push parser as a list of events for each chunk."""

    def __init__(self, boundary: str) -> None:
        self._events: list[_Event] = []
        self._headers: dict[str, str] = {}
        self._field = bytearray()
        self._value = bytearray()
        self.complete = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._header,
                    "on_headers_finished": self._begin,
                    "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                    "on_part_end": lambda: self._events.append(_End),
                    "on_end": self._end,
                },
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise InvalidInput(f"the form can't be read: {error}", code="bad_form") from None

    def _header(self) -> None:
        self._headers[self._field.decode("latin-1").lower()] = self._value.decode("utf-8", "surrogateescape")
        self._field.clear()
        self._value.clear()

    def _begin(self) -> None:
        # parse_options_header works on latin-1 text: names go through it as the bytes that they are.
        disposition = self._headers.pop("content-disposition", "").encode("utf-8", "surrogateescape").decode("latin-1")
        self._headers.clear()
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise InvalidInput("a part of the form has no name in its Content-Disposition", code="bad_form")
        filename = options.get(b"filename")
        # Browsers send a quote inside a name as %22.
        name = None if filename is None else filename.decode("utf-8", "replace").replace("%22", '"')
        self._events.append(_Begin(options[b"name"].decode("utf-8", "replace"), name))

    def _end(self) -> None:
        self.complete = True

    def feed(self, data: bytes) -> list[_Event]:
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise InvalidInput(f"the form can't be read: {error}", code="bad_form") from None
        events, self._events = self._events, []
        return events


@dataclass
class UploadForm:
    """One upload. `values` has the form's plain fields once `parts` has ended."""

    body: Body
    boundary: str
    request_id: str
    accepts: tuple[str, ...] = ("files", "zip_file")
    values: dict[str, str] = field(default_factory=dict)
    _kind: str = ""

    async def parts(self) -> AsyncIterator[Part]:
        """The messages of CreateSource. Raises InvalidInput for neither, both, and whatever else is wrong."""
        parser = _Parser(self.boundary)
        current: _Begin | None = None
        is_file = False
        value = bytearray()
        async for data in self.body.chunks():
            for event in parser.feed(data):
                if isinstance(event, _Begin):
                    current, is_file = event, self._takes(event)
                    if is_file:
                        for part in self._opening(event):
                            yield part
                elif isinstance(event, bytes):
                    if is_file:
                        for at in range(0, len(event), MAX_CHUNK_BYTES):
                            yield Part(chunk=event[at : at + MAX_CHUNK_BYTES])
                    elif current is not None and current.filename != "":
                        value += event
                        if len(value) > MAX_VALUE_BYTES:
                            raise InvalidInput(f"field {current.name!r} is too long", code="bad_form")
                elif current is not None:
                    if not is_file and current.filename != "":
                        self._field(current.name, value.decode("utf-8", "replace").strip())
                    value.clear()
                    current = None
        if not parser.complete and self.body.size_bytes:
            raise InvalidInput("the form ends in the middle: its last boundary is missing", code="bad_form")
        if not self._kind:
            raise InvalidInput(NEITHER, code="no_files")

    def _takes(self, part: _Begin) -> bool:
        if part.name not in FILE_FIELDS:
            return False
        if part.filename == "":  # what a browser sends for an empty file field
            return False
        if part.name not in self.accepts:
            raise InvalidInput(f"no field {part.name!r} here: one of {', '.join(self.accepts)}", code="bad_form")
        if part.filename is None:
            raise InvalidInput(f"field {part.name!r} must be a file, with a file name", code="bad_form")
        return True

    def _opening(self, part: _Begin) -> list[Part]:
        opening: list[Part] = []
        if not self._kind:
            self._kind = part.name
            opening.append(Part(header=self._header(part.name)))
        elif part.name != self._kind:
            raise InvalidInput(BOTH, code="files_and_zip")
        elif part.name != "files":
            raise InvalidInput(f"give one {part.name}, not several", code="bad_form")
        opening.append(Part(file=Part.File(name=part.filename or "")))
        return opening

    def _header(self, files: str) -> Part.Header:
        """What is said before the first file, which came in the field `files`."""
        kind = planner_pb2.SOURCE_KIND_ITEMS if files == "items" else planner_pb2.SOURCE_KIND_DOCUMENTS
        return Part.Header(kind=kind, zip=files == "zip_file", request_id=self.request_id)

    def _field(self, name: str, text: str) -> None:
        """A plain field of the form; those that are none of ours say nothing."""
        if name in VALUE_FIELDS:
            self.keep(name, text)

    def keep(self, name: str, text: str) -> None:
        """A plain field, of the form or given beside it; an empty one says nothing. Raises InvalidInput."""
        if not text:
            return
        if name == "granularity":
            checked_granularity(text)
            if self.values.get(name, text) != text:
                raise InvalidInput(
                    f"granularity is given twice, as {self.values[name]!r} and as {text!r}", code="bad_granularity"
                )
        self.values[name] = plain_text(text, name)
