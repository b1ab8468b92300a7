"""Rules as JSON: what is written is what is read back, whatever of it is set."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.client.money import micros
from penstock.client.rules import Rules, stage_rules
from penstock.client.views import rules_view
from penstock.runtime.errors import InvalidInput
from penstock.words import dollars


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"run_when": "all", "budget_micros": 5},
        {"retry": [{"kinds": ["timeout", "item"], "max_tries": 1}, {"fingerprint": "3f", "first_seconds": 2.0}]},
        {"heal": {"attempts": 1, "processor": "mend", "parameters": {"a": [1, None]}, "budget_micros": 0}},
        {"confirm": {"processor": "check", "parameters": {}}},
        {"gate": {"name": "ship", "timeout_seconds": 2.5, "default_answer": "reject"}},
        {"tolerance": {"failures": 0}, "valve": {"failures": 3, "closed_seconds": 1.0, "max_seconds": 9.0}},
        {"item_budget_micros": 0},
    ],
)
def test_rules_come_back_as_they_were_written(rules: dict[str, Any]) -> None:
    message = stage_rules(rules)
    assert message is not None
    assert rules_view(message) == rules
    assert Rules.model_validate(rules_view(message)).message() == message


def test_what_was_not_given_is_no_rule() -> None:
    assert stage_rules(None) is None
    with pytest.raises(InvalidInput, match=r"retry\.0\.max_tries"):
        stage_rules({"retry": [{"max_tries": "many"}]})
    with pytest.raises(InvalidInput):
        stage_rules({"heal": {"attempts": 2**40}})


@pytest.mark.parametrize(
    ("text", "amount", "told"),
    [
        ("5", 5_000_000, "$5.00"),
        ("$0.25", 250_000, "$0.25"),
        ("0.000001", 1, "$0.000001"),
        ("1234.5", 1_234_500_000, "$1,234.50"),
        ("0", 0, "$0.00"),
    ],
)
def test_money_is_exact(text: str, amount: int, told: str) -> None:
    assert micros(text) == amount
    assert dollars(amount) == told
    assert dollars(-amount) == (f"-{told}" if amount else told)


@pytest.mark.parametrize("text", ["", "-1", "1e3", "five", "0.0000001", "1,5", "٣"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="dollars"):
        micros(text)
