"""The rules of a stage, from the message that its plan made and its row keeps.

Read once for each text, since all batches of a stage ask for them. Not here: caps, which are columns of the stage, and
its gate, which `rows.gate_of` reads.
"""

from __future__ import annotations

from functools import lru_cache

from penstock.v1 import rules_pb2 as pb
from scheduler.domain.rules import Confirm, Heal, Retry, RunWhen, StageRules, Tolerance, Valve

__all__ = ["stage_rules"]

_RUN_WHEN = {pb.RUN_WHEN_ALL: RunWhen.ALL, pb.RUN_WHEN_ALWAYS: RunWhen.ALWAYS}


@lru_cache(maxsize=1_024)
def stage_rules(kept: bytes) -> StageRules:
    """What `stages.rules` says."""
    if not kept:
        return StageRules()
    message = pb.StageRules.FromString(kept)
    heal, confirm = message.heal, message.confirm
    tolerance, valve = message.tolerance, message.valve
    return StageRules(
        retry=tuple(
            Retry(
                kinds=frozenset(rule.kinds),
                fingerprint=rule.fingerprint,
                max_tries=rule.max_tries if rule.HasField("max_tries") else None,
                first_seconds=rule.first_seconds,
                max_seconds=rule.max_seconds,
                factor=rule.factor or 2.0,
            )
            for rule in message.retry
        ),
        heal=Heal(
            attempts=heal.attempts,
            processor=heal.processor,
            processor_version=heal.processor_version,
            parameters=heal.parameters,
            kinds=frozenset(heal.kinds),
            budget_micros=heal.budget_micros if heal.HasField("budget_micros") else None,
            paid=heal.paid,
        )
        if message.HasField("heal")
        else None,
        confirm=Confirm(confirm.processor, confirm.processor_version, confirm.parameters, confirm.paid)
        if message.HasField("confirm")
        else None,
        run_when=_RUN_WHEN.get(message.run_when, RunWhen.ANY),
        tolerance=Tolerance(
            tolerance.failures if tolerance.HasField("failures") else None,
            tolerance.share if tolerance.HasField("share") else None,
        )
        if message.HasField("tolerance")
        else None,
        valve=Valve(valve.failures, int(valve.closed_seconds * 1000), int(valve.max_seconds * 1000))
        if message.HasField("valve")
        else None,
    )
