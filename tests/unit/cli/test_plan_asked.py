"""What is typed to `plans create` becomes one value, or is refused, before anything is sent."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.plan_asked import ordering_asked, selection_asked
from penstock.client import Ordering, Selection
from penstock.runtime.errors import InvalidInput

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("filter", "ids", "missing", "reprocess", "failed_of", "changed_since", "sql", "whole"), ""),
    **dict.fromkeys(("exclude_filter", "exclude_ids", "org", "repo", "state"), ""),
    "everything": False,
    "threshold": None,
    "limit": 0,
    "again": False,
}


def selected(**typed: object) -> Selection | None:
    return selection_asked(**{**NOTHING, **typed})


def test_what_is_not_typed_is_not_sent() -> None:
    assert selected() is selected(everything=True) is selected(whole="{}") is selected(whole='{"all": true}') is None
    assert ordering_asked(pin=None, group_order="", sort="", as_selected=False) is None


@pytest.mark.parametrize(
    ("typed", "whole"),
    [
        ({"failed_of": "3", "limit": 5}, '{"failed_of_run": "3", "limit": 5}'),
        ({"changed_since": "two words"}, '{"changed_since_plan": "two words"}'),
        ({"reprocess": "scan", "threshold": 0.7}, '{"reprocess": {"processor": "scan", "threshold": 0.7}}'),
        ({"filter": "a = 1", "state": "open", "again": True}, '{"filter": "a = 1", "state": "open", "again": true}'),
        ({"sql": "SELECT 1", "exclude_filter": "b = 2"}, '{"sql": "SELECT 1", "exclude_filter": "b = 2"}'),
    ],
)
def test_options_say_what_the_one_form_says_and_nothing_is_looked_up(typed: dict[str, object], whole: str) -> None:
    assert selected(**typed) == selected(whole=whole) is not None


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"filter": "a = 1", "everything": True}, "one of --filter and --all"),
        ({"failed_of": "3", "whole": "{}"}, "one of --failed-of and --selection"),
        ({"whole": '{"missing": "scan"}', "limit": 3}, "--selection says all of it"),
        ({"ids": "-", "exclude_ids": "-"}, "standard input is read once"),
    ],
)
def test_what_does_not_fit_together_is_refused(typed: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        selected(**typed)


def test_keys_are_read_where_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text("a\nb\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("c\n"))
    assert selected(ids=str(tmp_path / "keys"), exclude_ids="-") == Selection(keys=["a", "b"], exclude_keys=["c"])


def test_an_order_is_read_by_its_commas() -> None:
    asked = ordering_asked(pin=["Razer"], group_order="Acer, Dell", sort="price desc,name", as_selected=False)
    assert asked == Ordering(pinned=("Razer",), groups=("Acer", "Dell"), sort=("price desc", "name"))
