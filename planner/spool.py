"""Rows on their way into a snapshot: written out, counted, hashed, cut into blocks; never all in memory.

The id of a source version is a hash over its schema and its rows in order, made here as they pass. A block is what
`ReadPlanItems` loads at once: at most `BLOCK_ROWS` rows and `BLOCK_BYTES` of payload (or one larger row), so that a
reader's memory is bounded whatever the payloads are.
"""

from __future__ import annotations

import hashlib

from planner.domain.rows import Row, encode_row
from planner.parquet import BLOCK_ROWS
from planner.staging import Upload, disk_trouble

__all__ = ["BLOCK_BYTES", "RowSpool"]

BLOCK_BYTES = 8 << 20
_BUFFER = 256 << 10


class RowSpool:
    """Appends rows to the upload's file `rows`."""

    def __init__(self, upload: Upload, schema: str) -> None:
        """`schema` is part of the id: the same rows as documents and as items are two sources."""
        self.count = 0
        self.blocks = [0]
        self.place = upload.path("rows")
        self._upload = upload
        self._file = upload.open("rows")
        self._buffer = bytearray()
        self._hash = hashlib.sha256(schema.encode() + b"\n")
        self._block_rows = self._block_bytes = 0

    def add(self, row: Row, line: int) -> None:
        """`line` is the row's line in the file that it came from; it is no part of the row."""
        encoded = encode_row(row)
        self._hash.update(encoded)
        self._buffer += b'{"line":%d,%b' % (line, encoded[1:])
        if len(self._buffer) > _BUFFER:
            self._flush()
        size = len(row.payload)
        if self._block_rows == BLOCK_ROWS or (self._block_rows and self._block_bytes + size > BLOCK_BYTES):
            self.blocks.append(self.count)
            self._block_rows = self._block_bytes = 0
        self._block_rows += 1
        self._block_bytes += size
        self.count += 1

    def finish(self) -> str:
        """Closes the file; returns the source's id. Raises Unavailable."""
        self._flush()
        self._file.close()
        return "source-" + self._hash.hexdigest()[:32]

    def _flush(self) -> None:
        try:
            self._file.write(self._buffer)
            self._file.flush()
        except OSError as error:
            raise disk_trouble(error, self._upload.blobs.folder) from error
        self._buffer.clear()
