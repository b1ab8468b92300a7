"""What operators do to items, and to which: the state decides. Pure.

What a verb takes is what `states.ITEM_TABLE` lets it; `front` changes no state, so that it is said here. Nothing fails:
a refusal is a verdict with its sentence.
"""

from __future__ import annotations

from enum import StrEnum

from scheduler.domain.rules import Kind
from scheduler.domain.states import ITEM_TABLE, ItemEvent, ItemState

__all__ = ["REOPENS", "UNKNOWN", "UNTOUCHED", "Verb", "Verdict", "judge"]

UNKNOWN = Kind.UNKNOWN.value
"""The kind of a failure of which nobody knows what the work did."""


class Verb(StrEnum):
    RETRY = "retry"
    SKIP = "skip"
    RELEASE = "release"
    RERUN = "rerun"
    FRONT = "front"
    ACCEPT = "accept"


class Verdict(StrEnum):
    CHANGE = "change"
    ALREADY = "already"
    REFUSED = "refused"


UNTOUCHED = frozenset({Verb.SKIP, Verb.FRONT})
"""Verbs that mean something for an item that was never leased."""
REOPENS = frozenset({Verb.RETRY, Verb.RERUN, Verb.ACCEPT})
"""Verbs that take up what has ended, and with it the stage and the run."""

_CHANGES = {
    verb: {state for state, event in ITEM_TABLE if event == ItemEvent(verb)} for verb in Verb if verb is not Verb.FRONT
} | {Verb.FRONT: {ItemState.QUEUED, ItemState.RETRY, ItemState.DEFERRED}}
_OPEN = {ItemState.QUEUED, ItemState.RUNNING, ItemState.RETRY, ItemState.DEFERRED}
_ALREADY = {
    Verb.RETRY: _OPEN,
    Verb.SKIP: {ItemState.SKIPPED},
    Verb.RELEASE: {ItemState.QUEUED, ItemState.RUNNING},
    Verb.RERUN: _OPEN,
    Verb.FRONT: {ItemState.RUNNING},
    Verb.ACCEPT: {ItemState.COMPLETED},
}
_TAKES = {verb: " or ".join(sorted(states)) for verb, states in _CHANGES.items()}


def judge(verb: Verb, state: ItemState, *, kind: str, named: bool, left: bool) -> tuple[Verdict, str]:
    """Whether the item takes it, and why not. `kind`: of its failure; `named`: by its seq, or by a filter that asks
    for unknown ones; `left`: its stage ended without it."""
    if left and verb in _OPENS_AGAIN:
        return Verdict.REFUSED, f"it is {state} because its stage ended without it; resume the run to go on with it"
    if state in _ALREADY[verb]:
        return Verdict.ALREADY, ""
    if state not in _CHANGES[verb]:
        return Verdict.REFUSED, f"it is {state}; {verb} takes items that are {_TAKES[verb]}"
    if verb is Verb.ACCEPT and kind != UNKNOWN:
        return Verdict.REFUSED, f"it failed with kind {kind}; accept takes what ended unknown"
    if verb in _OPENS_AGAIN and state is ItemState.FAILED and kind == UNKNOWN and not named:
        return (
            Verdict.REFUSED,
            "it ended unknown, so doing it again may do it twice; name it by its seq, or ask for kind = unknown",
        )
    return Verdict.CHANGE, ""


_OPENS_AGAIN = frozenset({Verb.RETRY, Verb.RERUN})
