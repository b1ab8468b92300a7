"""A task file on its way to a source: its open tasks as items, in an order that holds."""

from __future__ import annotations

import threading

import orjson

from penstock.runtime.errors import InvalidInput, TooLarge
from penstock.tasks import Finding, Unit, parse, task_items
from planner.intake import Taken
from planner.spool import RowSpool
from planner.staging import Upload

__all__ = ["TaskIntake"]

MOST_BYTES = 4 << 20


class TaskIntake:
    """One markdown file. A file with problems is refused whole; warnings are kept beside the source."""

    def __init__(self, upload: Upload, *, unit: Unit, batch_size: int) -> None:
        self._upload = upload
        self._unit: Unit = unit
        self._batch_size = batch_size
        self._name = ""
        self._data = bytearray()

    def begin(self, name: str) -> None:
        if self._name:
            raise InvalidInput("an upload takes one task file, and a second one was sent", code="several_files")
        self._name = name or "the task file"

    def write(self, chunk: bytes) -> None:
        self._data += chunk
        if len(self._data) > MOST_BYTES:
            raise TooLarge(f"a task file has at most {MOST_BYTES >> 20} MiB", code="task_file_too_large")

    def finish(self, stop: threading.Event) -> Taken:
        file = parse(bytes(self._data), name=self._name)
        items, warnings = task_items(file, unit=self._unit, batch_size=self._batch_size)
        if not items:
            told = f"all of its {len(file.tasks):,} tasks are done" if file.tasks else "it has no task, `- [ ] …`"
            raise InvalidInput(f"{self._name} has nothing to do: {told}", code="no_items")
        spool = RowSpool(self._upload, f"tasks 1 {self._unit}")
        spool.add(
            [
                (number, item["key"], item["group"], orjson.dumps(item["payload"]))
                for number, item in enumerate(items, 1)
            ]
        )
        source_id = spool.finish()
        return Taken(
            source_id,
            spool.place,
            spool.count,
            tuple(spool.blocks),
            len(self._data),
            0,
            [],
            notices=tuple(_notice(warning) for warning in warnings),
        )


def _notice(warning: Finding) -> dict[str, object]:
    return {"code": warning.code, "message": warning.message, "line": warning.line}
