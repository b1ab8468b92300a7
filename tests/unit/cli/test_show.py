"""How tables and foreign text come out, and how parameters go in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.cli import show
from penstock.cli.options import reference
from penstock.cli.starting import parameters
from penstock.runtime.errors import InvalidInput
from penstock.words import EVENT_TYPES, counted, dollars, numbers_there_are


def test_foreign_text_moves_no_cursor() -> None:
    assert show.text("a\x1b[2Jb\r\nc\u202ed") == "a [2Jb  c d"
    assert show.text(None) == show.text("") == "—"


def test_long_names_are_cut_in_the_middle() -> None:
    line = show.shortened("folder/" + "x" * 100 + "/name.txt", 30)
    assert len(line) == 30
    assert line.startswith("folder/")
    assert line.endswith("name.txt")


def test_columns_stand_below_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_table(("id", "name", "share"), [(1, "a", "0.5"), (12, "漢字", "—"), (3, "long name", "10.25")])
    assert capsys.readouterr().out.splitlines() == [
        "ID  NAME       SHARE",
        " 1  a            0.5",
        "12  漢字           —",
        " 3  long name  10.25",
    ]


def test_negative_numbers_stand_right_and_a_column_of_nothing_left(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_table(("similarity", "error"), [("-0.034", None), ("0.5", None)])
    assert capsys.readouterr().out.splitlines()[1:] == ["    -0.034  —", "       0.5  —"]


def test_facts_stand_below_each_other_and_empty_ones_not_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_facts([("id", "a"), ("source", ""), ("order", None), ("created", "today")])
    assert capsys.readouterr().out.splitlines() == ["  id       a", "  created  today"]
    show.print_facts([("id", "a"), ("granularity", "sentence")])
    assert capsys.readouterr().out.splitlines() == ["  id          a", "  granularity sentence"]
    show.print_facts([("id", None)])
    assert capsys.readouterr().out == ""


def test_the_last_column_is_wrapped_on_a_terminal_and_whole_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = "wrong extension .zip: " + "one of .txt, .md, .pdf, .docx and .html is read " * 2
    show.print_table(("id", "error"), [(1, reason)])
    assert capsys.readouterr().out.splitlines()[1] == f" 1  {reason}".rstrip()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    show.print_table(("id", "error"), [(1, reason)])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert all(len(line) <= 60 for line in lines)
    assert " ".join(" ".join(lines).split()) == f"1 {reason}".rstrip()
    assert lines[1].startswith("    ")


def test_numbers_are_told_as_people_do() -> None:
    assert [counted(n, "document") for n in (0, 1, 2_000)] == ["0 documents", "1 document", "2,000 documents"]
    assert [dollars(n) for n in (0, 5_250_000, 50, -1)] == ["$0.00", "$5.25", "$0.00005", "-$0.000001"]
    told = ["it has no items", "its only item is 0", "its items are 0 to 1"]
    assert [numbers_there_are(n, "item") for n in range(3)] == told


def test_almost_all_is_not_100_percent() -> None:
    assert [show.percent(share) for share in (0.29, 0.9999, 1.0)] == [29, 99, 100]


def test_the_types_of_events_are_those_that_the_scheduler_writes() -> None:
    written: set[str] = set()
    for path in (Path(__file__).parents[3] / "scheduler").rglob("*.py"):
        found = re.findall(r'"((?:run|stage|items?|lease|report|budget|heal|gate)\.[a-z_]+)"', path.read_text())
        written.update(found)
    assert written <= set(EVENT_TYPES), written - set(EVENT_TYPES)


def test_a_run_is_named_by_number_or_id() -> None:
    assert reference("12") == 12
    assert reference("run-12") == "run-12"
    assert reference("１２") == "１２"


def test_parameters_are_json_or_text() -> None:
    assert parameters(["top=3", "name=x=y", 'deep={"a": [1]}', "flag=true"]) == {
        "top": 3,
        "name": "x=y",
        "deep": {"a": [1]},
        "flag": True,
    }
    for bad in ("top", "=3"):
        with pytest.raises(InvalidInput, match="name=value"):
            parameters([bad])
