"""What operators do to items, and to which: the state decides. Pure."""

from __future__ import annotations

from enum import StrEnum

from scheduler.domain.states import ItemState

__all__ = ["REOPENS", "UNKNOWN", "UNTOUCHED", "Verb", "Verdict", "judge"]

UNKNOWN = "unknown"
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
    Verb.RETRY: {ItemState.FAILED},
    Verb.SKIP: {ItemState.QUEUED, ItemState.RETRY, ItemState.DEFERRED},
    Verb.RELEASE: {ItemState.RETRY, ItemState.DEFERRED},
    Verb.RERUN: {ItemState.COMPLETED, ItemState.FAILED, ItemState.SKIPPED},
    Verb.FRONT: {ItemState.QUEUED, ItemState.RETRY, ItemState.DEFERRED},
    Verb.ACCEPT: {ItemState.FAILED},
}
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
