"""Findings on a terminal: nothing that a cluster says paints it."""

from __future__ import annotations

import pytest

from penstock.cli.cluster import _print
from penstock.doctor.findings import ok, wrong

PAINTS = "\x1b]0;mine\x07\x1b[2J\u202e"


def test_what_was_looked_at_paints_no_more_than_what_was_found(capsys: pytest.CaptureFixture[str]) -> None:
    _print([ok(f"pod {PAINTS}", PAINTS), wrong(f"pod {PAINTS}", PAINTS, PAINTS)])
    assert not set("\x1b\x07\u202e") & set(capsys.readouterr().out)
