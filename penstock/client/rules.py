"""A stage's rules as people write them: JSON objects with the field names of `penstock.v1.StageRules`, words for enums
and JSON for parameters.

It checks shapes alone (names, types), all problems at once. What a rule may say is the planner's to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penstock.runtime.errors import InvalidInput
from penstock.v1 import rules_pb2

__all__ = ["Rules", "stage_rules"]

Answer = Literal["approve", "reject"]
MICROS = "In millionths of a dollar."


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RetryRule(_Part):
    """First match wins. No kinds, no fingerprint: it takes every failure."""

    kinds: list[str] = Field(default_factory=list, max_length=100)
    fingerprint: str = Field("", max_length=200)
    max_tries: int | None = Field(None, description="1: never again; absent: the stage's.")
    first_seconds: float = Field(0.0, description="Back-off after the first failure; 0: the scheduler's.")
    max_seconds: float = 0.0
    factor: float = Field(0.0, description="0: it doubles.")


class HealRules(_Part):
    """A failed item is leased again with the failure's context."""

    attempts: int
    processor: str = Field("", max_length=200, description="Empty: the stage's own.")
    parameters: dict[str, Any] | None = None
    kinds: list[str] = Field(default_factory=list, max_length=100)
    budget_micros: int | None = Field(None, description=MICROS)


class ConfirmRules(_Part):
    """A second witness: what it says decides."""

    processor: str = Field(max_length=200)
    parameters: dict[str, Any] | None = None


class GateRules(_Part):
    """A person is asked before the stage begins."""

    name: str = Field(max_length=200)
    timeout_seconds: float = Field(0.0, description="0: it waits for ever.")
    default_answer: Answer | None = Field(None, description="At the timeout; absent: reject.")


class ToleranceRules(_Part):
    failures: int | None = Field(None, description="More fail the stage at once.")
    share: float | None = Field(None, description="0-1 of the stage's items.")


class ValveRules(_Part):
    """Equal failures in a row close the stage, or their lane when all share one."""

    failures: int
    closed_seconds: float = 0.0
    max_seconds: float = 0.0


class Rules(_Part):
    """How a stage treats what goes wrong, what waits and what costs. What is absent is the default."""

    retry: list[RetryRule] = Field(default_factory=list, max_length=100)
    heal: HealRules | None = None
    confirm: ConfirmRules | None = None
    gate: GateRules | None = None
    run_when: Literal["any", "all", "always"] | None = None
    tolerance: ToleranceRules | None = None
    valve: ValveRules | None = None
    budget_micros: int | None = Field(None, description="Cap of the stage. " + MICROS)
    item_budget_micros: int | None = Field(None, description="Cap of one item over all its attempts. " + MICROS)

    def message(self) -> rules_pb2.StageRules:
        """Raises InvalidInput for a number that no message holds."""
        try:
            return self._message()
        except (ValueError, OverflowError, TypeError) as error:
            raise InvalidInput(f"rules can't be sent: {error}", code="bad_rules") from None

    def _message(self) -> rules_pb2.StageRules:
        made = rules_pb2.StageRules(
            retry=[rules_pb2.RetryRule(**rule.model_dump(exclude_none=True)) for rule in self.retry],
            run_when=rules_pb2.RunWhen.Value(f"RUN_WHEN_{(self.run_when or 'unspecified').upper()}"),
            budget_micros=self.budget_micros,
            item_budget_micros=self.item_budget_micros,
        )
        if self.heal is not None:
            made.heal.MergeFrom(rules_pb2.HealRules(**_fields(self.heal)))
            made.heal.SetInParent()
        if self.confirm is not None:
            made.confirm.MergeFrom(rules_pb2.ConfirmRules(**_fields(self.confirm)))
            made.confirm.SetInParent()
        if self.gate is not None:
            answer = f"GATE_ANSWER_{(self.gate.default_answer or 'unspecified').upper()}"
            made.gate.name = self.gate.name
            made.gate.timeout_seconds = self.gate.timeout_seconds
            made.gate.default_answer = rules_pb2.GateAnswer.Value(answer)
            made.gate.SetInParent()
        if self.tolerance is not None:
            made.tolerance.MergeFrom(rules_pb2.ToleranceRules(**_fields(self.tolerance)))
            made.tolerance.SetInParent()
        if self.valve is not None:
            made.valve.MergeFrom(rules_pb2.ValveRules(**_fields(self.valve)))
            made.valve.SetInParent()
        return made


def _fields(part: _Part) -> dict[str, Any]:
    fields = part.model_dump(exclude_none=True)
    if "parameters" in fields:
        fields["parameters"] = orjson.dumps(fields["parameters"])
    return fields


def stage_rules(given: Rules | Mapping[str, object] | None) -> rules_pb2.StageRules | None:
    """The message of what was given. Raises InvalidInput (code `bad_rules`) that lists everything that is wrong."""
    if given is None:
        return None
    if isinstance(given, Rules):
        return given.message()
    try:
        rules = Rules.model_validate(dict(given))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, one['loc'])) or 'rules'}: {one['msg']}" for one in error.errors()]
        raise InvalidInput(f"rules: {'; '.join(problems)}", code="bad_rules") from None
    return rules.message()
