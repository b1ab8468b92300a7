"""Ticking changes one byte a box and nothing else: against pages whose boxes are known, and on files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.runtime.errors import Conflict, InvalidInput, NotFound, PermissionDenied, TooLarge, Unavailable
from penstock.tasks import MAX_FILE_BYTES, parse, read_task_file, tick, tick_file
from penstock.tasks.files import held
from tests.unit.tasks.pages import Page, pages

PAGE = b"\xef\xbb\xbf# File \xff\r\n- [ ] T001 a\n- [x] T002 b\r\n* [ ] T011 c\r\n\n- [ ] d"


@given(pages())
def test_the_parser_finds_the_boxes_that_are_there_and_no_others(page: Page) -> None:
    found = parse(page.bytes())
    assert [(task.id, task.line, task.done) for task in found.tasks] == [
        (box.id, box.line + 1, box.mark != b" ") for box in page.boxes
    ]


@given(pages(), st.data())
def test_tick_and_undo_change_the_named_boxes_and_no_other_byte(page: Page, data: st.DataObject) -> None:
    if not page.boxes:
        return
    before = page.bytes()
    named = data.draw(st.lists(st.sampled_from([box.id for box in page.boxes]), min_size=1))
    still_open = {box.id for box in page.boxes if box.mark == b" "}
    ticked, opened = tick(before, named), tick(before, named, undo=True)
    assert ticked.data == page.bytes(ticked=named)
    assert opened.data == page.bytes(opened=named)
    assert [task.id for task in ticked.tasks] == list(dict.fromkeys(named))
    assert set(ticked.changed) == set(named) & still_open
    assert set(opened.changed) == set(named) - still_open
    differing = sum(one != other for one, other in zip(before, ticked.data, strict=True))
    assert differing == len(ticked.changed)
    if ticked.changed:
        assert tick(ticked.data, ticked.changed, undo=True).data == before


SOUP = st.lists(
    st.sampled_from(
        [
            *("- ", "* ", "1. ", "[ ] ", "[x] ", "[ ]", "T001 ", "T002", "a", "\n", "\n\n", "  ", "    ", "\t", "> "),
            *("```", "~~~", "# ", "## ", "---", "===", "<!--", "-->", "[x]: /u", "\\", "`", "<div>", "\r", "é", "\0"),
        ]
    ),
    max_size=40,
).map("".join)


@given(SOUP)
def test_a_rule_that_has_nothing_to_find_changes_nothing_by_being_left_out(text: str) -> None:
    every_rule = "\n\n> quote\n\n<!-- -->\n\n[x]: /u\n\n***\n\n# heading\n\ntext\n---\n\n```\n```\n"
    found, among_all = parse(text.encode()), parse((text + every_rule).encode())
    assert found.tasks == among_all.tasks


@given(SOUP)
def test_whatever_the_markdown_a_tick_changes_its_box_alone(text: str) -> None:
    data = text.encode()
    before = parse(data)
    names = [task.id for task in before.tasks]
    for task in before.tasks:
        assert data[task.mark_at - 1 : task.mark_at + 2] in (b"[ ]", b"[x]")
        if names.count(task.id) > 1:
            continue
        ticked = tick(data, [task.id]).data
        assert ticked == data[: task.mark_at] + b"x" + data[task.mark_at + 1 :]
        after = parse(ticked)
        assert [(one.id, one.line, one.text) for one in after.tasks] == [
            (one.id, one.line, one.text) for one in before.tasks
        ]
        assert [one.done or one.id == task.id for one in before.tasks] == [one.done for one in after.tasks]


def test_unknown_ids_are_told_all_at_once_with_the_nearest_and_nothing_changes() -> None:
    with pytest.raises(NotFound) as caught:
        tick(PAGE, ["T001", "T01", "X", "L2"], name="tasks.md")
    assert caught.value.code == "task_not_found"
    assert caught.value.message == (
        "tasks.md: no task T01 (nearest: T011, T001); no task X; no task L2: the one at that line is T001. "
        "Nothing was changed"
    )
    with pytest.raises(NotFound, match="it has no boxes"):
        tick(b"text", ["T001"])
    with pytest.raises(InvalidInput, match="no task is named"):
        tick(PAGE, [])


def test_an_id_that_stands_twice_is_refused_and_others_of_that_file_are_not() -> None:
    data = b"- [ ] T001 a\n- [ ] T001 b\n- [ ] T0011 c\n"
    with pytest.raises(InvalidInput, match="T001 stands at lines 1 and 2") as caught:
        tick(data, ["T0011", "T001"])
    assert caught.value.code == "repeated_id"
    assert tick(data, ["T0011"]).changed == ("T0011",)


def write(folder: Path, data: bytes = PAGE, mode: int = 0o640) -> Path:
    path = folder / "tasks.md"
    path.write_bytes(data)
    path.chmod(mode)
    return path


def test_a_tick_in_a_file_keeps_bytes_mode_and_folder(tmp_path: Path) -> None:
    path = write(tmp_path, mode=0o604)
    ticked = tick_file(path, ["L6", "T001", "T002"])
    assert ticked.changed == ("L6", "T001")
    assert path.read_bytes() == ticked.data == PAGE.replace(b"[ ] T001", b"[x] T001").replace(b"[ ] d", b"[x] d")
    assert path.stat().st_mode & 0o7777 == 0o604
    assert os.listdir(tmp_path) == ["tasks.md"]
    assert tick_file(path, ["L6", "T001"], undo=True).data == PAGE


def test_a_symbolic_link_stays_one_and_its_file_is_ticked(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    path = write(tmp_path / "there")
    link = tmp_path / "link.md"
    link.symlink_to(Path("there") / "tasks.md")
    tick_file(link, ["T001"])
    assert link.is_symlink()
    assert b"[x] T001" in path.read_bytes()
    assert os.listdir(tmp_path / "there") == ["tasks.md"]
    assert sorted(os.listdir(tmp_path)) == ["link.md", "there"]


def test_a_file_in_which_nothing_changes_is_not_written(tmp_path: Path) -> None:
    path = write(tmp_path)
    before = path.stat()
    assert tick_file(path, ["T002"]).changed == ()
    with pytest.raises(NotFound):
        tick_file(path, ["T001", "T999"])
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert path.read_bytes() == PAGE


@pytest.mark.parametrize("by_rename", [False, True])
def test_a_change_by_another_program_meanwhile_is_told_and_kept(tmp_path: Path, by_rename: bool) -> None:
    path = write(tmp_path)
    theirs = PAGE.replace(b"T001 a", b"T001 b")  # as long as before
    with held(path) as file:
        if by_rename:
            (tmp_path / "new").write_bytes(theirs)
            (tmp_path / "new").replace(path)
        else:
            path.write_bytes(theirs)
        with pytest.raises(Conflict) as caught:
            file.replace(tick(file.data, ["T001"]).data)
    assert caught.value.code == "file_changed"
    assert path.read_bytes() == theirs
    assert os.listdir(tmp_path) == ["tasks.md"]


def test_a_file_that_is_gone_meanwhile_is_told(tmp_path: Path) -> None:
    path = write(tmp_path)
    with held(path) as file:
        path.unlink()
        with pytest.raises(Conflict):
            file.replace(PAGE)
    assert os.listdir(tmp_path) == []


def test_a_writer_waits_no_longer_than_it_is_told(tmp_path: Path) -> None:
    path = write(tmp_path)
    with held(path), pytest.raises(Unavailable) as caught:
        tick_file(path, ["T001"], wait_seconds=0)
    assert caught.value.code == "file_held"
    assert tick_file(path, ["T001"], wait_seconds=0).changed == ("T001",)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="no space left"):
        tick_file(path, ["T001"])
    assert path.read_bytes() == PAGE
    assert os.listdir(tmp_path) == ["tasks.md"]


def test_what_is_no_task_file_is_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "large").write_bytes(b" " * (MAX_FILE_BYTES + 1))
    for name, error, told in [
        ("none.md", NotFound, "none.md: no such file"),
        ("large/x", NotFound, "x: no such file"),
        ("", InvalidInput, "is a folder"),
        ("pipe", InvalidInput, "is no file of text"),
        ("large", TooLarge, "4,194,305 bytes"),
        ("round", Unavailable, "symbolic links"),
    ]:
        for act in (read_task_file, lambda path: tick_file(path, ["T001"])):
            with pytest.raises(error, match=told):
                act(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, mode=0o440)
    with pytest.raises(PermissionDenied):
        tick_file(path, ["T001"])


WRITER = """
import sys
from pathlib import Path
from penstock.tasks import tick_file

path, ids = Path(sys.argv[1]), sys.argv[2:]
print("ready", flush=True)
sys.stdin.readline()
for name in ids:
    assert tick_file(path, [name]).changed == (name,)
"""


def test_two_processes_that_tick_different_tasks_of_one_file_lose_none(tmp_path: Path) -> None:
    names = [f"T{number:03}" for number in range(120)]
    path = write(tmp_path, "".join(f"- [ ] {name} a\r\n" for name in names).encode())
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), *names[begin::2]], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for begin in (0, 1)
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write(b"go\n")
            writer.stdin.flush()
        assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert path.read_bytes() == "".join(f"- [x] {name} a\r\n" for name in names).encode()
    assert os.listdir(tmp_path) == ["tasks.md"]
