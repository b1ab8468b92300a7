"""Task files: markdown with boxes, as people and agents keep them, read into batches of open tasks, and ticked.

    ## Phase 2: Core
    - [x] T007 Create the parser
    - [ ] T009 [P] [US1] Resolve the current folder [depends: T007]

`parse` makes values of the bytes, `task_items` items of a plan of these (the planner), `tick_file` ticks boxes in the
file itself and changes no other byte of it (the command line). Parsing, ordering and `tick` are pure; `files` alone
touches the disk. A file that can't be understood is refused whole, with all its problems; what can be read in spite of
a mistake is a warning with its line.
"""

from __future__ import annotations

from penstock.tasks.batches import (
    DEFAULT_BATCH_SIZE,
    MAX_BATCH_SIZE,
    Batch,
    TaskItem,
    Unit,
    task_batches,
    task_items,
)
from penstock.tasks.files import read_task_file
from penstock.tasks.model import Finding, Section, Task, TaskFile
from penstock.tasks.parsing import MAX_FILE_BYTES, parse
from penstock.tasks.tick import Ticked, tick, tick_file

__all__ = [
    "DEFAULT_BATCH_SIZE",
    "MAX_BATCH_SIZE",
    "MAX_FILE_BYTES",
    "Batch",
    "Finding",
    "Section",
    "Task",
    "TaskFile",
    "TaskItem",
    "Ticked",
    "Unit",
    "parse",
    "read_task_file",
    "task_batches",
    "task_items",
    "tick",
    "tick_file",
]
