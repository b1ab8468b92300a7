"""`penstock tasks` on real files, by the very command line that users have."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.cli import app

Told = Callable[..., tuple[int, str, str]]

FILE = """# File

## Phase 1
- [x] T001 a

## Phase 2
- [x] T002 b
- [ ] T003 [P] [US1] Do \x1b[31mthis [depends: T004, T999]
- [ ] T004 Do that
"""


@pytest.fixture
def penstock(monkeypatch: pytest.MonkeyPatch) -> Told:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["penstock", *arguments])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = app.run()
        return code, out.getvalue(), err.getvalue()

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "tasks.md"
    path.write_text(FILE)
    return path


def test_list_shows_batches_tasks_in_order_and_warnings(penstock: Told, path: Path) -> None:
    code, out, err = penstock("tasks", "list", str(path))
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines() if line] == [
        ["BATCH", "OPEN", "DONE", "LINE", "KEY"],
        ["1", "2", "1", "6", "Phase", "2"],
        ["BATCH", "TASK", "LINE", "MARKS", "AFTER", "TEXT"],
        ["1", "T004", "9", "—", "—", "Do", "that"],
        ["1", "T003", "8", "P", "US1", "T004,", "T999", "Do", "[31mthis"],
        ["1", "batch,", "2", "open", "tasks,", "2", "done"],
        ["warning,", "line", "8:", "T003", "depends", "on", "T999,", "which", "is", "not", "in", "the", "file"],
    ]


def test_list_as_json(penstock: Told, path: Path) -> None:
    code, out, err = penstock("tasks", "list", str(path), "--json")
    assert (code, err) == (0, "")
    task = {"parallel": False, "stories": [], "depends_on": [], "path": ["File", "Phase 2"]}
    assert json.loads(out) == {
        "file": str(path),
        "batches": [
            {
                "number": 1,
                "key": "Phase 2",
                "group": "Phase 2",
                "section": "Phase 2",
                "path": ["File", "Phase 2"],
                "line": 6,
                "done": 1,
                "tasks": [
                    {**task, "id": "T004", "text": "Do that", "line": 9},
                    {
                        **task,
                        "id": "T003",
                        "text": "Do \x1b[31mthis",
                        "line": 8,
                        "parallel": True,
                        "stories": ["US1"],
                        "depends_on": ["T004", "T999"],
                    },
                ],
            }
        ],
        "open": 2,
        "done": 2,
        "warnings": [
            {
                "code": "unknown_dependency",
                "line": 8,
                "message": "T003 depends on T999, which is not in the file",
            }
        ],
    }


def test_a_file_without_open_tasks_has_no_tables(penstock: Told, path: Path) -> None:
    path.write_text("# File\n- [x] T001 a\n")
    assert penstock("tasks", "list", str(path)) == (0, "0 batches, 0 open tasks, 1 done\n", "")


def test_the_size_of_batches_is_for_files_without_sections(penstock: Told, path: Path) -> None:
    path.write_text("- [ ] T001 a\n- [ ] T002 b\n- [ ] T003 c\n")
    _, out, _ = penstock("tasks", "list", str(path), "--batch-size", "2", "--json")
    assert [batch["key"] for batch in json.loads(out)["batches"]] == ["T001 to T002", "T003"]
    code, _, err = penstock("tasks", "list", str(path), "--batch-size", "51")
    assert (code, err) == (2, "penstock: batch_size is 51, it may be 1-50\n")


def test_tick_says_of_each_task_what_happened(penstock: Told, path: Path) -> None:
    code, out, err = penstock("tasks", "tick", str(path), "T004", "T002")
    assert (code, err) == (0, "")
    assert out == "T004 ticked (line 9): Do that\nT002 was ticked already (line 7): b\n"
    assert path.read_text() == FILE.replace("[ ] T004", "[x] T004")
    code, out, _ = penstock("tasks", "tick", str(path), "--undo", "T004", "T003")
    assert out == "T004 open again (line 9): Do that\nT003 was open already (line 8): Do  [31mthis\n"
    assert path.read_text() == FILE


def test_tick_as_json(penstock: Told, path: Path) -> None:
    _, out, _ = penstock("tasks", "tick", str(path), "T004", "T002", "--json")
    told = json.loads(out)
    assert told["file"] == str(path)
    assert [(task["id"], task["done"], task["changed"]) for task in told["tasks"]] == [
        ("T004", True, True),
        ("T002", True, False),
    ]


def test_mistakes_are_one_sentence_and_bad_input(penstock: Told, path: Path) -> None:
    code, out, err = penstock("tasks", "tick", str(path), "T04")
    assert (code, out) == (2, "")
    assert err == f"penstock: {path}: no task T04 (nearest: T004). Nothing was changed\n"
    code, out, err = penstock("tasks", "list", str(path.parent / "none.md"), "--json")
    assert (code, out) == (2, "")
    assert json.loads(err)["error"]["code"] == "no_such_file"
    path.write_text("- [ ] T001 a\n- [ ] T001 b\n")
    code, out, err = penstock("tasks", "list", str(path))
    assert (code, out) == (2, "")
    assert err == f"penstock: {path}: T001 stands at lines 1 and 2: each task needs an id of its own\n"
