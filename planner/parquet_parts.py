"""Parquet files of the same columns made into one, without reading their rows again.

A part goes as soon as its bytes are in the whole, so that both are never on the disk at once. Parts may be made while
the whole grows: what it has of them is written to the disk meanwhile, and who keeps it waits for the rest alone.
What fails leaves a file that is none (it has no footer): the caller removes it. Raises Unavailable when the disk is
full, ValueError for a file that is no Parquet file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from penstock.runtime.blobs import blob_trouble
from planner.domain.parquet_footer import joined

__all__ = ["join_parts"]

_MARK = b"PAR1"
_TAIL = 8  # bytes after the footer: its length, and the mark
_CHUNK = 1 << 20
_WRITTEN_BYTES = 64 << 20
"""So many are worth a write to the disk of their own."""


def join_parts(parts: Iterable[Path], place: Path) -> None:
    """Makes the file `place` of the row groups of at least one file, in order; `parts` are gone then."""
    try:
        with place.open("wb") as whole, ThreadPoolExecutor(1) as pool:
            whole.write(_MARK)
            footers, written = [], 0
            on_disk: Future[None] | None = None
            for part in parts:
                with part.open("rb") as file:
                    footer, end = _footer(file, part)
                    footers.append((footer, whole.tell() - len(_MARK)))
                    file.seek(len(_MARK))
                    _copy(file, whole, end - len(_MARK))
                part.unlink()
                if whole.tell() - written > _WRITTEN_BYTES:
                    if on_disk is not None:
                        on_disk.result()
                    whole.flush()
                    written = whole.tell()
                    on_disk = pool.submit(os.fdatasync, whole.fileno())
            if on_disk is not None:
                on_disk.result()
            footer = joined(footers)
            whole.write(footer + len(footer).to_bytes(4, "little") + _MARK)
    except OSError as error:
        raise blob_trouble(error, place.parent) from error


def _footer(file: BinaryIO, part: Path) -> tuple[bytes, int]:
    """The footer, and where it begins."""
    size = file.seek(0, 2)
    file.seek(max(size - _TAIL, 0))
    tail = file.read(_TAIL)
    begin = size - _TAIL - int.from_bytes(tail[:4], "little")
    if tail[4:] != _MARK or begin < len(_MARK):
        raise ValueError(f"{part} is no file of Parquet")
    file.seek(begin)
    return file.read(size - _TAIL - begin), begin


def _copy(file: BinaryIO, whole: BinaryIO, count: int) -> None:
    while count:
        data = file.read(min(count, _CHUNK))
        if not data:
            raise OSError("a file became shorter")
        whole.write(data)
        count -= len(data)
