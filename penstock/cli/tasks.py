"""`penstock tasks`: what a task file holds, and ticking boxes in it. Works on the file itself; needs no server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli import show
from penstock.cli.options import JsonOption
from penstock.words import counted

if TYPE_CHECKING:
    from penstock.tasks import Batch, Finding, Task, TaskFile

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Task files in markdown: their batches, and ticking boxes.")

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A markdown file with boxes.", show_default=False)]


@app.command("list")
def list_(
    file: FileArgument,
    batch_size: Annotated[
        int, typer.Option("--batch-size", help="Tasks in a batch where the file has no `##`: 1-50.")
    ] = 15,
    as_json: JsonOption = False,
) -> None:
    """The batches of a task file with their open tasks, in the order in which they would be done.

    Example: penstock tasks list tasks.md
    """
    from penstock.tasks import parse, read_task_file, task_batches

    found = parse(read_task_file(file), name=str(file))
    batches, warnings = task_batches(found, batch_size=batch_size)
    if as_json:
        show.print_json(_list_view(found, batches, warnings))
        return
    still = sum(len(batch.tasks) for batch in batches)
    done = len(found.tasks) - still
    if batches:
        show.print_table(
            ("batch", "open", "done", "line", "key"),
            [(number, len(batch.tasks), batch.done, batch.line, batch.key) for number, batch in enumerate(batches, 1)],
        )
        show.say()
        show.print_table(
            ("batch", "task", "line", "marks", "after", "text"),
            [
                (number, task.id, task.line, _marks(task), ", ".join(task.depends_on), task.text)
                for number, batch in enumerate(batches, 1)
                for task in batch.tasks
            ],
        )
        show.say()
    many = "1 batch" if len(batches) == 1 else f"{len(batches):,} batches"
    show.say(f"{many}, {counted(still, 'open task')}, {done:,} done")
    for warning in warnings:
        show.say(f"warning, line {warning.line}: {show.text(warning.message)}")


@app.command()
def tick(
    file: FileArgument,
    tasks: Annotated[
        list[str],
        typer.Argument(metavar="TASK...", help="As T001; L12: the one at line 12.", show_default=False),
    ],
    undo: Annotated[bool, typer.Option("--undo", help="Open the boxes again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Tick the boxes of these tasks, all or none, and change no other byte of the file.

    Example: penstock tasks tick tasks.md T001 T002
    """
    from penstock.tasks import tick_file

    ticked = tick_file(file, tasks, undo=undo)
    if as_json:
        views = [{**_task_view(task), "done": not undo, "changed": task.id in ticked.changed} for task in ticked.tasks]
        show.print_json({"file": str(file), "tasks": views})
        return
    now = "open" if undo else "ticked"
    for task in ticked.tasks:
        said = f"{now} again" if undo else now
        said = said if task.id in ticked.changed else f"was {now} already"
        show.say(f"{task.id} {said} (line {task.line}): {show.text(task.text)}")


def _marks(task: Task) -> str:
    return " ".join([*(["P"] if task.parallel else []), *task.stories])


def _list_view(file: TaskFile, batches: tuple[Batch, ...], warnings: tuple[Finding, ...]) -> dict[str, Any]:
    return {
        "file": file.name,
        "batches": [
            {
                "number": number,
                "key": batch.key,
                "group": batch.group,
                "section": batch.title,
                "path": batch.path,
                "line": batch.line,
                "done": batch.done,
                "tasks": [_task_view(task) for task in batch.tasks],
            }
            for number, batch in enumerate(batches, 1)
        ],
        "open": sum(not task.done for task in file.tasks),
        "done": sum(task.done for task in file.tasks),
        "warnings": [{"code": warning.code, "line": warning.line, "message": warning.message} for warning in warnings],
    }


def _task_view(task: Task) -> dict[str, Any]:
    return {
        "id": task.id,
        "text": task.text,
        "line": task.line,
        "parallel": task.parallel,
        "stories": task.stories,
        "depends_on": task.depends_on,
        "path": task.path,
    }
