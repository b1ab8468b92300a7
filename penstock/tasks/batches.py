"""Batches of a task file, and the items of a plan that they become. Pure.

`unit: batch` (the default): one item for each `##` section with open tasks, in the order of the file; its payload holds
the open tasks, those first that others of the section wait for:

    key      the section's key: its title, with a number when it is repeated
    group    the same
    payload  {"section": title, "path": [titles, `#` first], "line": n, "tasks": [task, …]}

A file without any `##` has no sections: then its open tasks, ordered, are cut into batches of `batch_size`. Their keys
name the first and the last task (`T001 to T015`): a number would mean other tasks after every tick. Their group is
empty.

`unit: task`: one item for each open task, in an order that holds over the whole file: key = id, group = the section's
key, payload = the task and its section's title. A task, in both:

    {"id", "text", "line", "parallel": bool, "stories": ["US1"], "depends_on": [ids as written], "path": [titles]}

What a task waits for counts only where it is open: done, or in an earlier section, is no warning. Ids that are not in
the file, cycles, and (with `unit: batch`) what stands in a later section are warnings, and the order of the file is
kept there. A file with problems is refused (InvalidInput) before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from penstock.runtime.errors import InvalidInput
from penstock.tasks.model import Finding, Section, Task, TaskFile
from penstock.tasks.order import arrange

__all__ = ["DEFAULT_BATCH_SIZE", "MAX_BATCH_SIZE", "Batch", "TaskItem", "Unit", "task_batches", "task_items"]

Unit = Literal["batch", "task"]
DEFAULT_BATCH_SIZE = 15
MAX_BATCH_SIZE = 50
_CYCLE_TOLD = 10


class TaskItem(TypedDict):
    """A line of an items source."""

    key: str
    group: str
    payload: dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Open tasks in the order in which they are to be done; `done`: how many of the section are done already."""

    key: str
    group: str
    title: str
    path: tuple[str, ...]
    line: int
    tasks: tuple[Task, ...]
    done: int = 0


def task_batches(
    file: TaskFile, *, batch_size: int = DEFAULT_BATCH_SIZE
) -> tuple[tuple[Batch, ...], tuple[Finding, ...]]:
    """The batches, and all warnings by line. `batch_size` (1-50) counts where there are no sections."""
    file.check()
    if not 1 <= batch_size <= MAX_BATCH_SIZE:
        raise InvalidInput(f"batch_size is {batch_size}, it may be 1-{MAX_BATCH_SIZE}", code="bad_batch_size")
    ids = {task.id: task for task in file.tasks}
    warnings = [*file.warnings]
    if not file.sections:
        tasks = _ordered(_open(file.tasks), ids, warnings)
        parts = [tasks[at : at + batch_size] for at in range(0, len(tasks), batch_size)]
        return tuple(_cut(part) for part in parts), _by_line(warnings)
    batches, seen = [], set[str]()
    for section in file.sections:
        tasks = _ordered(_open(section.tasks), ids, warnings, seen)
        seen.update(task.id for task in section.tasks)
        if tasks:
            batches.append(_of_section(section, tasks))
    return tuple(batches), _by_line(warnings)


def task_items(
    file: TaskFile, *, unit: Unit = "batch", batch_size: int = DEFAULT_BATCH_SIZE
) -> tuple[tuple[TaskItem, ...], tuple[Finding, ...]]:
    """The items in the order in which they are to be done, and all warnings by line. None where no task is open."""
    if unit == "batch":
        batches, found = task_batches(file, batch_size=batch_size)
        return tuple(_batch_item(batch) for batch in batches), found
    if unit != "task":
        raise InvalidInput(f"unit is {unit!r}, it may be batch or task", code="bad_unit")
    file.check()
    warnings = [*file.warnings]
    section_of = {task.id: section for section in file.sections for task in section.tasks}
    tasks = _ordered(_open(file.tasks), {task.id: task for task in file.tasks}, warnings)
    return tuple(_task_item(task, section_of.get(task.id)) for task in tasks), _by_line(warnings)


def _open(tasks: Sequence[Task]) -> list[Task]:
    return [task for task in tasks if not task.done]


def _ordered(
    tasks: Sequence[Task], ids: Mapping[str, Task], warnings: list[Finding], earlier: set[str] | None = None
) -> list[Task]:
    """The tasks so that each comes after those that it depends on. ids: all of the file, earlier: of sections before
    (None: the tasks are all that are open)."""
    places = {task.id: place for place, task in enumerate(tasks)}
    waits_for: list[list[int]] = []
    for task in tasks:
        waits: list[int] = []
        for name in task.depends_on:
            if (place := places.get(name)) is not None:
                waits.append(place)
            elif name not in ids:
                message = f"{task.id} depends on {name[:100]}, which is not in the file"
                warnings.append(Finding(code="unknown_dependency", line=task.line, message=message))
            elif earlier is not None and name not in earlier and not ids[name].done:
                message = f"{task.id} depends on {name}, which is in a later section (line {ids[name].line})"
                warnings.append(Finding(code="later_dependency", line=task.line, message=message))
        waits_for.append(waits)
    order, cycles = arrange(waits_for)
    for cycle in cycles:
        names = [tasks[place].id for place in cycle]
        more = f" and {len(names) - _CYCLE_TOLD:,} more" if len(names) > _CYCLE_TOLD else ""
        told = (
            f"{names[0]} depends on itself"
            if len(names) == 1
            else f"{', '.join(names[:_CYCLE_TOLD])}{more} depend on each other in a cycle: they keep the file's order"
        )
        warnings.append(Finding(code="dependency_cycle", line=tasks[cycle[0]].line, message=told))
    return [tasks[place] for place in order]


def _by_line(warnings: Sequence[Finding]) -> tuple[Finding, ...]:
    return tuple(sorted(warnings, key=lambda finding: finding.line))


def _of_section(section: Section, tasks: Sequence[Task]) -> Batch:
    return Batch(
        key=section.key,
        group=section.key,
        title=section.title,
        path=section.path,
        line=section.line,
        tasks=tuple(tasks),
        done=len(section.tasks) - len(tasks),
    )


def _cut(tasks: Sequence[Task]) -> Batch:
    first, last = tasks[0].id, tasks[-1].id
    key = first if first == last else f"{first} to {last}"
    return Batch(key=key, group="", title="", path=(), line=min(task.line for task in tasks), tasks=tuple(tasks))


def _batch_item(batch: Batch) -> TaskItem:
    return {
        "key": batch.key,
        "group": batch.group,
        "payload": {
            "section": batch.title,
            "path": [*batch.path],
            "line": batch.line,
            "tasks": [_told(task) for task in batch.tasks],
        },
    }


def _task_item(task: Task, section: Section | None) -> TaskItem:
    return {
        "key": task.id,
        "group": section.key if section else "",
        "payload": {"section": section.title if section else "", **_told(task)},
    }


def _told(task: Task) -> dict[str, object]:
    return {
        "id": task.id,
        "text": task.text,
        "line": task.line,
        "parallel": task.parallel,
        "stories": [*task.stories],
        "depends_on": [*task.depends_on],
        "path": [*task.path],
    }
