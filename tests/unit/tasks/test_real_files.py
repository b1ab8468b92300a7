"""Task files that people and agents keep, where they lie beside the project: counts that anybody can check by eye."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.tasks import TaskFile, parse, task_batches, task_items, tick

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "tasks"


def read(name: str) -> TaskFile:
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"{name} is not beside the project")
    return parse(path.read_bytes(), name=name)


def test_a_file_with_open_tasks_in_three_of_five_phases() -> None:
    file = read("sample-tasks.md")
    assert [(len(section.tasks), sum(task.done for task in section.tasks)) for section in file.sections] == [
        (6, 6),
        (8, 2),
        (4, 0),
        (3, 0),
        (3, 3),
    ]
    batches, warnings = task_batches(file)
    assert [[task.id for task in batch.tasks] for batch in batches] == [
        ["T009", "T010", "T011", "T011a", "T011b", "T011c"],
        ["T012", "T013", "T014", "T015"],
        ["T016", "T017", "T018"],
    ]
    assert warnings == ()
    assert {task.id for task in file.tasks if task.parallel and not task.done} == {"T010", "T011a", "T011b", "T011c"}
    assert [task.stories for task in batches[2].tasks] == [("US2",)] * 3
    assert len(batches[0].tasks[3].path) == 3, "below a third level"


@pytest.mark.parametrize(
    ("name", "sections", "tasks"), [("1048-workflow-foundation.md", 8, 20), ("1054-project-details-redesign.md", 8, 52)]
)
def test_a_file_that_is_done_has_sections_and_no_batches(name: str, sections: int, tasks: int) -> None:
    file = read(name)
    assert (len(file.sections), len(file.tasks)) == (sections, tasks)
    assert all(task.done for task in file.tasks)
    assert task_items(file) == task_items(file, unit="task") == ((), ())


@pytest.mark.parametrize("name", ["sample-tasks.md", "1048-workflow-foundation.md", "1054-project-details-redesign.md"])
def test_every_box_of_a_file_can_be_opened_and_ticked(name: str) -> None:
    names = [task.id for task in read(name).tasks]
    data = (FOLDER / name).read_bytes()
    opened = tick(data, names, undo=True).data
    assert opened.count(b"\n- [ ] T") == len(names)
    assert opened == data.replace(b"\n- [x] T", b"\n- [ ] T")
    assert tick(opened, names).data == data.replace(b"\n- [ ] T", b"\n- [x] T")
