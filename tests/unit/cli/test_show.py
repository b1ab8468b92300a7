"""How tables and foreign text come out, and how parameters go in."""

from __future__ import annotations

import pytest

from penstock.cli import show
from penstock.cli.options import reference
from penstock.cli.runs import parameters
from penstock.runtime.errors import InvalidInput


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
