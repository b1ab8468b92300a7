"""Rows on their way into a snapshot: written out, counted, hashed, cut into blocks; never all in memory.

The id of a source version is a hash over its schema and its rows in order, made here as they pass. A block is what
`ReadPlanItems` loads at once: at most `BLOCK_ROWS` rows and `BLOCK_BYTES` of payload (or one larger row), so that a
reader's memory is bounded whatever the payloads are.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence

from penstock.runtime.blobs import blob_trouble
from planner.domain.rows import Row, encode_row
from planner.parquet import BLOCK_ROWS
from planner.staging import Upload

__all__ = ["BLOCK_BYTES", "RowSpool"]

BLOCK_BYTES = 8 << 20


class RowSpool:
    """Appends rows to the upload's file `rows`, one canonical line each."""

    def __init__(self, upload: Upload, schema: str) -> None:
        """`schema` is part of the id: the same rows as documents and as items are two sources."""
        self.count = 0
        self.blocks = [0]
        self.place = upload.path("rows")
        self._upload = upload
        self._file = upload.open("rows")
        self._hash = hashlib.sha256(schema.encode() + b"\n")
        self._block_rows = self._block_bytes = 0
        # Where lines and rows part (blank lines): from this row on, the line is so much further.
        self._shift_rows, self._shifts = array("Q"), array("Q")

    def add(self, rows: Sequence[Row]) -> None:
        """Raises Unavailable when the disk does not take them."""
        for row in rows:
            size = len(row[3])
            if self._block_rows == BLOCK_ROWS or (self._block_rows and self._block_bytes + size > BLOCK_BYTES):
                self.blocks.append(self.count)
                self._block_rows = self._block_bytes = 0
            self._block_rows += 1
            self._block_bytes += size
            shift = row[0] - self.count
            if not self._shifts or self._shifts[-1] != shift:
                self._shift_rows.append(self.count)
                self._shifts.append(shift)
            self.count += 1
        encoded = b"".join(map(encode_row, rows))
        self._hash.update(encoded)
        try:
            self._file.write(encoded)
        except OSError as error:
            raise blob_trouble(error, self._upload.blobs.folder) from error

    def line_of(self, row: int) -> int:
        """The line that a row (from 0) came from."""
        return row + self._shifts[bisect_right(self._shift_rows, row) - 1]

    def finish(self) -> str:
        """Closes the file; returns the source's id. Raises Unavailable."""
        try:
            self._file.close()
        except OSError as error:
            raise blob_trouble(error, self._upload.blobs.folder) from error
        return "source-" + self._hash.hexdigest()[:32]
