"""Every way an attempt may end, with every fact about it: none is left undecided, and none breaks a rule."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from scheduler.domain.outcomes import LOST, Decision, Ended, Ending, decide
from scheduler.domain.rules import Kind
from scheduler.domain.states import ITEM_TABLE, ItemState, Mode

FLAGS = ("stopping", "permanent", "no_try", "confirms", "healable", "named", "retries_off", "waits", "affordable")
WAITING = {ItemState.QUEUED, ItemState.RETRY, ItemState.DEFERRED}
NEXT = {new for (old, _), new in ITEM_TABLE.items() if old is ItemState.RUNNING}


def every(ended: Ended) -> Iterator[tuple[Ending, Decision]]:
    kinds = (Kind.ITEM, Kind.UNCONFIRMED, Kind.UNKNOWN) if ended in LOST or ended is Ended.FAILED else ("",)
    for mode, kind, tries, flags in itertools.product(
        Mode, kinds, (0, 2), itertools.product((False, True), repeat=len(FLAGS))
    ):
        ending = Ending(
            ended=ended, mode=mode, kind=kind, tries=tries, max_tries=3, **dict(zip(FLAGS, flags, strict=True))
        )
        yield ending, decide(ending)


@pytest.mark.parametrize("ended", Ended)
def test_every_end_in_every_mode_leads_where_the_table_says(ended: Ended) -> None:
    for ending, after in every(ended):
        assert after.state in NEXT, ending
        assert after.tries - ending.tries in (0, 1), ending
        assert after.heals - ending.heals in (0, 1), ending
        assert not (ending.stopping and after.state in WAITING), ending
        assert (after.state is ItemState.DEFERRED) == (ended is Ended.DEFERRED and not ending.stopping) or (
            after.state is ItemState.FAILED
        ), ending


@pytest.mark.parametrize("ended", [Ended.COMPLETED, Ended.THROTTLED, Ended.DEFERRED, Ended.RELEASED, Ended.STOPPED])
def test_only_failures_and_lost_workers_cost_a_try(ended: Ended) -> None:
    assert all(after.tries == ending.tries for ending, after in every(ended))


def test_a_completion_is_the_end_unless_a_second_witness_is_asked() -> None:
    for ending, after in every(Ended.COMPLETED):
        asked = ending.confirms and ending.mode is not Mode.CONFIRM
        assert (after.state is ItemState.COMPLETED) == (not asked), ending
        if asked:
            assert after.mode is Mode.CONFIRM, ending


@pytest.mark.parametrize("ended", sorted(LOST | {Ended.FAILED}))
def test_what_ended_unknown_is_never_done_again_unasked(ended: Ended) -> None:
    for ending, after in every(ended):
        if ending.kind == Kind.UNKNOWN and not ending.named and not ending.healable:
            assert after.state is ItemState.FAILED, ending


def test_only_what_may_be_healed_is_and_each_healing_is_counted() -> None:
    for ended in Ended:
        for ending, after in every(ended):
            if after.heals > ending.heals:
                assert ending.healable, ending
                assert after.mode is Mode.HEAL, ending
