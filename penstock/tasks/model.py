"""What a task file says, as frozen values: tasks, sections, and what is wrong with it.

Made by `penstock.tasks.parsing` and by nothing else. Pure: no file is read or written here. A file with problems is
kept as it is, so that they can be shown; whoever goes on with it calls `TaskFile.check` first, which refuses it with
all its problems at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from penstock.runtime.errors import InvalidInput

__all__ = ["Finding", "Section", "Task", "TaskFile"]

PROBLEMS_TOLD = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A list item with a box.

    id: as written, or `L<line>`. text: in one line, without id, markers and dependencies. path: the titles of all
    headings above it, `#` first. depends_on: ids as written, known or not. mark_at: the byte of the file that stands
    between the brackets of its box.
    """

    id: str
    text: str
    line: int
    done: bool
    parallel: bool
    stories: tuple[str, ...]
    depends_on: tuple[str, ...]
    path: tuple[str, ...]
    mark_at: int


@dataclass(frozen=True, kw_only=True)
class Section:
    """A `##` with its tasks, those below its `###` too; or what stands before the first `##` or after a later `#`.

    key: unique within the file, and the same however many tasks are ticked. title: as written. line: of its heading;
    1 where it has none. path: the titles of the headings that open it, `#` first.
    """

    key: str
    title: str
    line: int
    path: tuple[str, ...]
    tasks: tuple[Task, ...]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What is wrong with one line: a problem refuses the file, a warning doesn't."""

    code: str
    line: int
    message: str


@dataclass(frozen=True, kw_only=True)
class TaskFile:
    """name: what messages call it. tasks: all, in the order of the file. sections: those that have tasks; none where
    the file has no `##` at all.
    """

    name: str
    tasks: tuple[Task, ...]
    sections: tuple[Section, ...]
    problems: tuple[Finding, ...]
    warnings: tuple[Finding, ...]

    def check(self) -> None:
        """Raises InvalidInput, with the code of the first problem and the words of all, where there are any."""
        if not self.problems:
            return
        told = "; ".join(problem.message for problem in self.problems[:PROBLEMS_TOLD])
        more = len(self.problems) - PROBLEMS_TOLD
        raise InvalidInput(
            f"{self.name}: {told}" + (f"; and {more:,} more" if more > 0 else ""), code=self.problems[0].code
        )
