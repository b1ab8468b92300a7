"""What speaks against a plan has one shape and, of the same thing, one wording, whoever finds it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import planner
from penstock.v1 import planner_pb2
from planner.domain.objections import Objection, many_items, paid

SHAPE = ["code", "message"]
OF_SOURCES = "table_sources.py"
"""What is noticed of a source is another message, which may have a line."""


def test_what_is_kept_of_one_is_a_warning_on_the_wire() -> None:
    plan = planner_pb2.Plan()
    for one in (many_items(12_000, 10_000), paid("ask"), Objection("sample", "9 of the 90 items")):
        plan.warnings.add(**one.kept())
    assert [(one.code, one.message) for one in plan.warnings] == [
        ("many_items", "12,000 items are more than 10,000: confirm to start it"),
        ("paid", "ask costs money: confirm to start it"),
        ("sample", "9 of the 90 items"),
    ]


def test_nobody_in_the_planner_puts_one_together_by_hand() -> None:
    by_hand = [
        f"{path.name}:{node.lineno}"
        for path in sorted(Path(planner.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if path.name != OF_SOURCES and isinstance(node, ast.Dict) and list(_names(node)) == SHAPE
    ]
    assert not by_hand


def _names(told: ast.Dict) -> Iterator[object]:
    return (key.value for key in told.keys if isinstance(key, ast.Constant))
