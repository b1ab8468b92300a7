"""A witness outside Penstock: writes down each execution of each item as it begins, in the workers' own processes.

On PYTHONPATH of a stack under test, this module is imported by every program at its start. In the one that imports the
`document` processor it wraps its `process_batch`: one appended line an item (nanoseconds, run, stage, seq, attempt,
pid), and a pause, so that a run lasts long enough to be hit. Penstock does not know of it.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
from types import ModuleType
from typing import Any

WATCHED = "worker.processors.document"


def _wrap(module: ModuleType) -> None:
    processor = module.DocumentProcessor
    original = processor.process_batch
    log, pause = os.environ["PEN_WITNESS_LOG"], float(os.environ["PEN_WITNESS_PAUSE"])

    @functools.wraps(original)
    async def process_batch(self: Any, items: Any, context: Any) -> Any:
        now = time.time_ns()
        lines = [f"{now} {i.run_id} {i.stage} {i.seq} {i.attempt} {os.getpid()}\n" for i in items]
        # One write with O_APPEND: lines of several workers never mix, and a kill leaves whole lines.
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, "".join(lines).encode())
        os.close(descriptor)
        await asyncio.sleep(pause)
        return await original(self, items, context)

    processor.process_batch = process_batch


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != WATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _wrap(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


if "PEN_WITNESS_LOG" in os.environ:
    sys.meta_path.insert(0, _Finder())
