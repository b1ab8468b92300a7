"""A selection by what was recorded that matches nothing says so in the words of what was asked for."""

from __future__ import annotations

import pytest

from penstock.cli.process import _why_nothing
from penstock.client import Selection


@pytest.mark.parametrize(
    ("selection", "state", "told"),
    [
        (Selection(missing="scan"), "", "no row of mice lacks a completed result of scan"),
        (
            Selection(missing="scan", org="acme"),
            "open",
            "no row of mice with org acme and state open lacks a completed result of scan",
        ),
        (
            Selection(reprocess="scan", threshold=0.7),
            "",
            "no row of mice has a result of scan with a confidence below 0.7",
        ),
        # What a SELECT found nothing of, only the server can say.
        (Selection(sql="SELECT key FROM items"), "", ""),
    ],
)
def test_why_there_is_nothing_to_do(selection: Selection, state: str, told: str) -> None:
    assert _why_nothing(selection, state, "mice") == told
