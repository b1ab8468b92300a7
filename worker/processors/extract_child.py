"""Runs the extraction child for one file, and says in a sentence why there is no text.

Parsers of foreign formats stay out of the worker: they are slow, large, and meet hostile files. Few run at once.
A child that outlives its time is killed; so is one whose item was revoked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from typing import BinaryIO

from worker.processors.extract import EXIT_UNREADABLE
from worker.processors.extract_text import Unreadable, require_text

__all__ = ["Extractor"]

MAX_ANSWER_BYTES = 48 << 20
"""UTF-8 of the largest text that a child may give."""


@dataclass(frozen=True)
class Extractor:
    """`seconds` and `memory_bytes` bound each child, `places` how many run at once."""

    seconds: float
    memory_bytes: int
    places: asyncio.Semaphore

    async def text(self, kind: str, file: BinaryIO) -> str:
        """The text of the open `file`. Raises Unreadable; cancelling ends the child."""
        async with self.places:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "worker.processors.extract"),
                *(kind, str(max(1, round(self.seconds))), str(self.memory_bytes)),
                stdin=file,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")},
            )
            try:
                async with asyncio.timeout(self.seconds):
                    assert process.stdout is not None
                    answer = await _bounded(process.stdout)
                    code = await process.wait()
            except TimeoutError:
                raise Unreadable(self._too_long) from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        if code == EXIT_UNREADABLE:
            raise Unreadable(answer.decode("utf-8", "replace"))
        if code == -signal.SIGXCPU:
            raise Unreadable(self._too_long)
        if code != 0:
            # Parsers in C end the process when memory is refused to them.
            raise Unreadable(f"its text can't be taken within {self.memory_bytes >> 20} MiB of memory")
        return require_text(answer.decode("utf-8", "replace"))

    @property
    def _too_long(self) -> str:
        return f"taking its text needs longer than {self.seconds:g} s"


async def _bounded(stream: asyncio.StreamReader) -> bytes:
    parts, size = [], 0
    while part := await stream.read(1 << 20):
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise Unreadable("too large: its text is longer than a document may be")
        parts.append(part)
    return b"".join(parts)
