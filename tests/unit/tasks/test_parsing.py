"""What is a task, a section and a heading, rule by rule; by CommonMark, and by O1 where CommonMark says nothing."""

from __future__ import annotations

import pytest

from penstock.runtime.errors import InvalidInput, TooLarge
from penstock.tasks import MAX_FILE_BYTES, Task, TaskFile, parse


def read(text: str) -> TaskFile:
    return parse(text.encode())


def ids(text: str) -> list[str]:
    return [task.id for task in read(text).tasks]


def sections(text: str) -> dict[str, list[str]]:
    return {section.key: [task.id for task in section.tasks] for section in read(text).sections}


def test_each_section_holds_its_tasks() -> None:
    assert sections("## A\n- [ ] T001 a\n- [x] T002 b\n\n## B\n* [ ] T003 c\n") == {
        "A": ["T001", "T002"],
        "B": ["T003"],
    }


@pytest.mark.parametrize("marker", ["-", "*", "+", "1.", "2)"])
def test_every_list_of_commonmark_has_boxes(marker: str) -> None:
    assert ids(f"{marker} [ ] T001 a") == ["T001"]


@pytest.mark.parametrize(("box", "done"), [("[ ]", False), ("[x]", True), ("[X]", True)])
def test_a_box_is_open_or_done(box: str, done: bool) -> None:
    (task,) = read(f"- {box} T001 a").tasks
    assert task.done is done


@pytest.mark.parametrize(
    "line",
    ["- [~] T001 a", "- [P] T001 a", "- [-] T001 a", "- [] T001 a", "- [  ] T001 a", "- [ ]T001 a", "- [x](link) a"],
)
def test_other_marks_are_no_boxes(line: str) -> None:
    assert ids(line) == []


@pytest.mark.parametrize(
    "text",
    [
        "[ ] T001 in no list",
        "-[ ] T001 no space behind the marker",
        "- text first [ ] T001",
        "- **[ ]** T001 bold",
        "- \xa0[ ] T001 behind a space that is none of CommonMark",
        "- \x0b\n  [ ] T001 on the second line of a paragraph",
        "> > > > > - \x0b\n> > > > >   [ ] a",
        "```\n- [ ] T001 in a fence\n```",
        "~~~ text\n- [ ] T001 in a fence\n```\n- [ ] T002 in the same fence",
        "- item\n  ```\n  - [ ] T001 in a fence in a list\n  ```",
        "text\n\n    - [ ] T001 in indented code",
        "<!--\n- [ ] T001 in a comment\n-->",
        "- # [ ] T001 a heading in a list",
        "- [ ] T001 what a line below makes a heading\n  ---",
    ],
)
def test_what_only_looks_like_a_task_is_none(text: str) -> None:
    assert ids(text) == []


def test_nested_and_quoted_tasks_are_tasks_of_their_own_in_the_order_of_the_file() -> None:
    text = "- [ ] T001 a\n  - [x] T002 b\n    1. [ ] T003 c\n- note\n  - [ ] T004 d\n\n> - [ ] T005 e\n"
    assert ids(text) == ["T001", "T002", "T003", "T004", "T005"]
    assert [task.text for task in read(text).tasks] == ["a", "b", "c", "d", "e"]


def test_deep_lists_lose_no_task() -> None:
    text = "".join(f"{'  ' * depth}- [ ] T{depth:03} a\n" for depth in range(30))
    assert len(ids(text)) == 30


def test_headings_in_fences_comments_quotes_and_lists_are_no_sections() -> None:
    text = "## A\n- [ ] T001 a\n\n```\n## B\n```\n<!--\n## C\n-->\n> ## D\n\n- ## E\n\n- [ ] T002 b\n"
    assert sections(text) == {"A": ["T001", "T002"]}


def test_a_third_level_belongs_to_its_section() -> None:
    text = "# File\n## A\n- [ ] T001 a\n### Part\n- [ ] T002 b\n#### Deep\n- [ ] T003 c\n### Other\n- [ ] T004 d\n"
    assert sections(text) == {"A": ["T001", "T002", "T003", "T004"]}
    assert [task.path for task in read(text).tasks] == [
        ("File", "A"),
        ("File", "A", "Part"),
        ("File", "A", "Part", "Deep"),
        ("File", "A", "Other"),
    ]


def test_tasks_before_the_first_section_are_one_of_their_own() -> None:
    assert sections("- [ ] T001 a\n## A\n- [ ] T002 b\n") == {"(before the first section)": ["T001"], "A": ["T002"]}
    assert sections("# File\n- [ ] T001 a\n## A\n- [ ] T002 b\n") == {"File": ["T001"], "A": ["T002"]}


def test_a_later_first_level_ends_the_section() -> None:
    text = "# One\n## A\n- [ ] T001 a\n# Two\n- [ ] T002 b\n## B\n- [ ] T003 c\n"
    assert sections(text) == {"A": ["T001"], "Two": ["T002"], "B": ["T003"]}
    assert read(text).tasks[2].path == ("Two", "B")


def test_underlined_headings_count() -> None:
    assert sections("File\n====\n\nA\n-\n- [ ] T001 a\n\nB\n---\n- [ ] T002 b\n") == {"A": ["T001"], "B": ["T002"]}
    assert sections("## A\n- [ ] T001 a\n\n---\n\n- [ ] T002 b\n") == {"A": ["T001", "T002"]}, "a rule is no heading"
    assert sections("[x]: /u\n---\n- [ ] T001 a\n") == {}, "a link's definition is no title"


def test_a_file_without_second_level_headings_has_no_sections() -> None:
    assert sections("# File\n### Part\n- [ ] T001 a\n") == {}
    assert ids("# File\n### Part\n- [ ] T001 a\n") == ["T001"]


def test_titles_stay_as_people_wrote_them() -> None:
    found = read("## Phase 1: `Setup` (Infra) ✅ COMPLETE ##\n- [ ] T001 a\n").sections
    assert [section.title for section in found] == ["Phase 1: `Setup` (Infra) ✅ COMPLETE"]


def test_repeated_titles_get_numbers_that_ticking_does_not_change() -> None:
    text = "## A\n- [ ] T001 a\n## A\n- [ ] T002 b\n## A (2)\n- [ ] T003 c\n## A\n- [ ] T004 d\n## A\nno task\n"
    keys = {"A": ["T001"], "A (3)": ["T002"], "A (2)": ["T003"], "A (4)": ["T004"]}
    assert sections(text) == keys
    assert sections(text.replace("[ ] T001", "[x] T001")) == keys


def test_an_empty_title_has_a_key() -> None:
    assert sections("##\n- [ ] T001 a\n## \n- [ ] T002 b\n") == {"(no title)": ["T001"], "(no title) (2)": ["T002"]}


def test_keys_are_short_and_printable() -> None:
    (section,) = read(f"## {'long ' * 200}\x07\x1b[31m\n- [ ] T001 a\n").sections
    assert len(section.key) == 300
    (section,) = read("## A\x07\x1b[31mB\n- [ ] T001 a\n").sections
    assert section.key == "A [31mB"


@pytest.mark.parametrize(
    ("written", "task_id"),
    [
        ("T001 a", "T001"),
        ("T011a a", "T011a"),
        ("T2.1 a", "T2.1"),
        ("**T001** a", "T001"),
        ("**T001:** a", "T001"),
        ("`T001` a", "T001"),
        ("[T001] a", "T001"),
        ("T001: a", "T001"),
        ("T001. a", "T001"),
        ("[P] T001 a", "T001"),
        ("Tea a", "L3"),
        ("T001-T004 a", "L3"),
        ("see T001", "L3"),
        ("HTTP2 a", "L3"),
        ("t001 a", "L3"),
    ],
)
def test_the_id_is_read_and_a_box_without_one_gets_its_line(written: str, task_id: str) -> None:
    assert ids(f"text\n\n- [ ] {written}\n") == [task_id]


def only(text: str) -> Task:
    (task,) = read(f"- [ ] {text}\n").tasks
    return task


@pytest.mark.parametrize(
    ("written", "text", "parallel", "stories"),
    [
        ("T001 [P] [US1] Do it", "Do it", True, ("US1",)),
        ("T001 [US1] [P] [US12] Do it", "Do it", True, ("US1", "US12")),
        ("T001 [US1, US2] Do it", "Do it", False, ("US1", "US2")),
        ("T001 Do it [US1] [P]", "Do it", True, ("US1",)),
        ("T001 [P1] [US2] [FR-002] Do it", "[P1] [FR-002] Do it", False, ("US2",)),
        ("T001 Explain the [P] marker and [US1] too", "Explain the [P] marker and [US1] too", False, ()),
        ("T001 `[P]` is a mark", "`[P]` is a mark", False, ()),
        ("T001 [link](there) and [P](there)", "[link](there) and [P](there)", False, ()),
        ("T001", "", False, ()),
        ("T001 [P]", "", True, ()),
    ],
)
def test_markers_stand_before_the_text_or_at_its_end(
    written: str, text: str, parallel: bool, stories: tuple[str, ...]
) -> None:
    task = only(written)
    assert (task.id, task.text, task.parallel, task.stories) == ("T001", text, parallel, stories)


@pytest.mark.parametrize(
    ("written", "depends_on", "text"),
    [
        ("T003 Do it [depends: T001, T002]", ("T001", "T002"), "Do it"),
        ("T003 Do it [dep: T001]", ("T001",), "Do it"),
        ("T003 Do it [after: T001]", ("T001",), "Do it"),
        ("T003 [Depends: T001 T002] Do it", ("T001", "T002"), "Do it"),
        ("T003 [P] [dep:T001;T002] [US1] Do it", ("T001", "T002"), "Do it"),
        ("T003 Do [after: T001] it [dep: T002, T001] now", ("T001", "T002"), "Do it now"),
        ("T003 Do it [after: `T001` and **T002**]", ("T001", "T002"), "Do it"),
        ("T003 Do it [depends: ]", (), "Do it"),
        ("T003 Write `[depends: T001]` into the docs", (), "Write `[depends: T001]` into the docs"),
        ("T003 A ` and [depends: T001]", ("T001",), "A ` and"),
        ("T003 Do it (depends on T001)", (), "Do it (depends on T001)"),
        ("T003 Do it [before: T001]", (), "Do it [before: T001]"),
    ],
)
def test_dependencies_are_read_anywhere_but_in_code(written: str, depends_on: tuple[str, ...], text: str) -> None:
    task = only(written)
    assert (task.depends_on, task.text) == (depends_on, text)


def test_a_text_over_several_lines_becomes_one_line() -> None:
    task = only("T001 Do it\n  carefully\nand soon [dep: T9,\n  T8]\n\n  Another paragraph is not its text.")
    assert (task.text, task.depends_on, task.line) == ("Do it carefully and soon", ("T9", "T8"), 1)


def test_a_box_without_a_text_is_a_warning() -> None:
    found = read("- [ ]\n- [ ] [P]\n- [x]\n- [ ] T001\n")
    assert [task.id for task in found.tasks] == ["T001"]
    assert [(warning.code, warning.line) for warning in found.warnings] == [("empty_box", 1), ("empty_box", 2)]


def test_repeated_ids_are_refused_all_at_once_with_their_lines() -> None:
    found = read("- [ ] T001 a\n- [x] T001 b\n- [ ] T002 c\n## B\n- [ ] T002 d\n- [ ] T001 e\n- [ ] T003 f\n")
    assert [(problem.code, problem.line) for problem in found.problems] == [("repeated_id", 2), ("repeated_id", 5)]
    with pytest.raises(InvalidInput) as caught:
        found.check()
    assert caught.value.code == "repeated_id"
    assert "T001 stands at lines 1, 2 and 6" in caught.value.message
    assert "T002 stands at lines 3 and 5" in caught.value.message
    read("- [ ] T001 a\n").check()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_with_every_kind_of_line_end(end: str) -> None:
    text = "\ufeff## A\n\nein Ü, 🚰\x0b\x0c\u2028\x85\n- [ ] T001 ü\n\n\t- [x] T002 b\n"
    data = text.replace("\n", end).encode()
    found = parse(data)
    assert [(task.id, task.line) for task in found.tasks] == [("T001", 4), ("T002", 6)]
    assert [data[task.mark_at - 1 : task.mark_at + 2] for task in found.tasks] == [b"[ ]", b"[x]"]
    assert found.sections[0].title == "A"


def test_bytes_that_are_no_utf8_are_shown_as_such_and_warned_of() -> None:
    found = parse(b"# \xff\n- [ ] T001 caf\xe9\n")
    assert found.tasks[0].text == "caf�"
    assert [(warning.code, warning.line) for warning in found.warnings] == [("not_utf8", 1)]
    assert parse("# \N{REPLACEMENT CHARACTER}\n".encode()).warnings == ()


def test_utf16_and_too_large_files_are_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"x\.md is UTF-16"):
        parse("- [ ] T001 a".encode("utf-16"), name="x.md")
    with pytest.raises(TooLarge, match=r"x\.md has 4,194,305 bytes"):
        parse(b" " * (MAX_FILE_BYTES + 1), name="x.md")


@pytest.mark.parametrize("text", ["", "\n", "\ufeff", "text", "# File\n", "## A\n", "\0"])
def test_a_file_without_tasks_is_no_mistake(text: str) -> None:
    found = read(text)
    assert (found.tasks, found.sections, found.problems, found.warnings) == ((), (), (), ())
