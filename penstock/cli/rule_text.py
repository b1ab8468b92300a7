"""The rules of a stage in words, one line a rule: what a plan will do when something goes wrong, waits or costs.

It reads the shape of `penstock.client.rules.Rules`. A rule that it does not know is told as JSON, so none is hidden.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["rule_lines"]


def rule_lines(rules: Mapping[str, Any]) -> list[str]:
    """`heal: at most 2 attempts, by mend 1`. Empty where all is as usual."""
    return [line for name, rule in rules.items() for line in _lines(name, rule)]


def _lines(name: str, rule: Any) -> Iterator[str]:
    from penstock.words import counted, dollars

    if name == "retry":
        for one in rule:
            yield f"retry: {_retry(one)}"
    elif name in ("heal", "confirm"):
        parts = [f"at most {counted(rule['attempts'], 'attempt')}"] if "attempts" in rule else []
        parts += [f"by {rule['processor']} {rule.get('processor_version', '')}".rstrip()] if "processor" in rule else []
        parts += [f"of {', '.join(rule['kinds'])}"] if rule.get("kinds") else []
        parts += [f"with {json.dumps(rule['parameters'], ensure_ascii=False)}"] if rule.get("parameters") else []
        parts += [f"for at most {dollars(rule['budget_micros'])} in all"] if "budget_micros" in rule else []
        parts += ["costs money"] if rule.get("paid") else []
        yield f"{name}: {', '.join(parts)}"
    elif name == "gate":
        waits = "waits for an answer"
        if rule.get("timeout_seconds"):
            waits += f", after {rule['timeout_seconds']:g} s {rule.get('default_answer', 'reject')}"
        yield f"gate: {rule['name']}, {waits}"
    elif name in ("budget_micros", "item_budget_micros"):
        yield f"{'budget' if name == 'budget_micros' else 'budget of an item'}: {dollars(rule)}"
    else:
        yield f"{name}: {rule if isinstance(rule, str) else json.dumps(rule, ensure_ascii=False)}"


def _retry(rule: Mapping[str, Any]) -> str:
    of = ", ".join(rule.get("kinds", ())) or "every failure"
    parts = [f"{of} like {rule['fingerprint']!r}" if rule.get("fingerprint") else of]
    if "max_tries" in rule:
        parts.append("never" if rule["max_tries"] == 1 else f"at most {rule['max_tries']} tries")
    parts += [f"first after {rule['first_seconds']:g} s"] if rule.get("first_seconds") else []
    parts += [f"at most {rule['max_seconds']:g} s apart"] if rule.get("max_seconds") else []
    parts += [f"{rule['factor']:g} times longer each"] if rule.get("factor") else []
    return ", ".join(parts)
