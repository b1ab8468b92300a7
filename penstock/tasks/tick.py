"""Ticking boxes: `tick` makes new bytes of bytes, `tick_file` does it to a file that others may be ticking too.

Only the sign between the brackets changes; line ends, a BOM, a missing last line end and bytes that are no UTF-8 stay
as they are. All tasks that are named are ticked, or none: an id that is not there, or there twice, is refused with what
would be right, before anything is written. A box that is ticked already is no mistake, and is told apart. A file in
which nothing changes is not written.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.runtime.errors import InvalidInput, NotFound
from penstock.tasks.files import WAIT_SECONDS, held
from penstock.tasks.model import Task, TaskFile
from penstock.tasks.parsing import parse

__all__ = ["Ticked", "tick", "tick_file"]

IDS_TOLD = 10
_TICKED, _OPEN = b"x", b" "


@dataclass(frozen=True, kw_only=True)
class Ticked:
    """data: the file's bytes now. tasks: those that were named, in that order, as they stood before. changed: the ids
    of those whose box changed."""

    data: bytes
    tasks: tuple[Task, ...]
    changed: tuple[str, ...]


def tick(data: bytes, ids: Sequence[str], *, undo: bool = False, name: str = "the task file") -> Ticked:
    """The bytes with the boxes of these tasks ticked, or open again with `undo`. Raises NotFound, InvalidInput."""
    tasks = _named(parse(data, name=name), list(dict.fromkeys(ids)))
    changed = [task for task in tasks if task.done == undo]
    ticked = bytearray(data)
    for task in changed:
        ticked[task.mark_at : task.mark_at + 1] = _OPEN if undo else _TICKED
    return Ticked(data=bytes(ticked), tasks=tuple(tasks), changed=tuple(task.id for task in changed))


def tick_file(path: Path, ids: Sequence[str], *, undo: bool = False, wait_seconds: float = WAIT_SECONDS) -> Ticked:
    """The same in the file. Raises Conflict, too, when somebody changed it meanwhile, and what `held` raises."""
    with held(path, wait_seconds=wait_seconds) as file:
        ticked = tick(file.data, ids, undo=undo, name=str(path))
        if ticked.changed:
            file.replace(ticked.data)
    return ticked


def _named(file: TaskFile, ids: Sequence[str]) -> list[Task]:
    if not ids:
        raise InvalidInput("no task is named: an id as T001 is needed", code="no_task")
    found: dict[str, list[Task]] = {}
    for task in file.tasks:
        found.setdefault(task.id, []).append(task)
    unknown = [name for name in ids if name not in found]
    if unknown:
        told = "; ".join(_unknown(name, file, list(found)) for name in unknown[:IDS_TOLD])
        more = f"; and {len(unknown) - IDS_TOLD} more" if len(unknown) > IDS_TOLD else ""
        raise NotFound(f"{file.name}: {told}{more}. Nothing was changed", code="task_not_found")
    repeated = {name for name in ids if len(found[name]) > 1}
    if repeated:
        told = "; ".join(problem.message for problem in file.problems if problem.message.split(" ", 1)[0] in repeated)
        raise InvalidInput(f"{file.name}: {told}. Nothing was changed", code="repeated_id")
    return [found[name][0] for name in ids]


def _unknown(name: str, file: TaskFile, ids: Sequence[str]) -> str:
    shown = name if len(name) <= 60 else f"{name[:59]}…"
    if not ids:
        return f"no task {shown}: it has no boxes"
    at_line = next((task.id for task in file.tasks if name == f"L{task.line}"), None)
    if at_line is not None:
        return f"no task {shown}: the one at that line is {at_line}"
    near = difflib.get_close_matches(name[:60], ids, 3)
    return f"no task {shown}" + (f" (nearest: {', '.join(near)})" if near else "")
