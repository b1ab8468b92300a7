"""What the command line says to do next, and how it refuses what was mistyped."""

from __future__ import annotations

import pytest

from penstock.cli.app import _told
from penstock.cli.options import seqs_of
from penstock.cli.run_text import hint
from penstock.filters import Field, Filter, Kind
from penstock.runtime.errors import InvalidInput
from penstock.v1 import scheduler_pb2


@pytest.mark.parametrize(
    ("waiting", "command"),
    [
        ("gate ship", "penstock gates approve 3 ship"),
        ("budget: nobody knows what an item of noop costs; set its price", "penstock budgets price noop DOLLARS"),
        (
            "budget: item 0/1 needs $0.000002, $0.000001 are left of the cap of the run",
            "penstock budgets set 3 DOLLARS",
        ),
        (
            "budget: item 1/1 needs $0.000002, $0.000001 are left of the cap of stage 1",
            "penstock budgets set 3 DOLLARS --stage 1",
        ),
        ("budget", "penstock budgets set 3 DOLLARS"),
    ],
)
def test_a_run_that_waits_names_the_command_that_lets_it_go_on(waiting: str, command: str) -> None:
    assert hint(scheduler_pb2.Run(number=3, waiting=waiting)).endswith(f": {command}")
    assert hint(scheduler_pb2.Run(number=3)) == ""


def test_a_range_of_items_is_read_and_a_turned_one_refused() -> None:
    assert seqs_of(["4", "7-9"]) == [4, 7, 8, 9]
    with pytest.raises(InvalidInput, match="3-5"):
        seqs_of(["5-3"])


def test_a_filter_that_is_wrong_is_shown_with_a_caret_under_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InvalidInput) as told:
        Filter.parse("price = 5 AND price > cheap", {"price": Field(Kind.NUMBER)})
    _told(told.value)
    _, line, below = capsys.readouterr().err.splitlines()
    assert line[below.index("^") :] == "cheap"
