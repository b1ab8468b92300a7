"""Acquires that are woken together ask until one of their kind was given less than it asked for, and no longer."""

from __future__ import annotations

import asyncio

from penstock.v1 import scheduler_pb2 as pb
from scheduler.ready import StageKey
from scheduler.store.items import Proposal
from scheduler.store.leases import Offer
from scheduler.waiting import Kind, Waiting

NOOP = Kind.of(pb.WorkerSession(worker_class="default", processors={"noop": "1"}))
OTHER = Kind.of(pb.WorkerSession(worker_class="default", processors={"other": "1"}))


class Ready:
    """So many items; each call is given two of them."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.asked = 0

    async def ask(self) -> dict[StageKey, Offer]:
        self.asked += 1
        count = min(self.left, 2)
        self.left -= count
        await asyncio.sleep(0)
        return {(1, 0): Offer(0, [Proposal(seq, "", "") for seq in range(count)])} if count else {}


async def test_nobody_asks_once_nothing_is_left_until_the_next_wake() -> None:
    waiting, ready = Waiting(lambda: 0), Ready(5)
    found = await asyncio.gather(*(waiting.asked(NOOP, 2, ready.ask, look=False) for _ in range(10)))
    assert (sum(len(offers) for offers in found), ready.asked) == (3, 3)
    assert waiting.has_room("default", "noop", "1")
    waiting.wake()
    assert not waiting.has_room("default", "noop", "1")
    await waiting.asked(NOOP, 2, ready.ask, look=False)
    assert ready.asked == 4


async def test_what_one_kind_can_not_serve_another_may() -> None:
    waiting, ready = Waiting(lambda: 0), Ready(0)
    for kind in (NOOP, NOOP, OTHER):
        await waiting.asked(kind, 2, ready.ask, look=False)
    assert ready.asked == 2


async def test_whoever_looks_by_itself_asks_in_any_case() -> None:
    waiting, ready = Waiting(lambda: 0), Ready(0)
    for _ in range(3):
        await waiting.asked(NOOP, 2, ready.ask, look=True)
    assert ready.asked == 3


async def test_one_that_asked_before_a_wake_says_nothing_about_what_is_left_after_it() -> None:
    waiting, ready = Waiting(lambda: 0), Ready(0)

    async def woken_meanwhile() -> dict[StageKey, Offer]:
        waiting.wake()
        return await ready.ask()

    await waiting.asked(NOOP, 2, woken_meanwhile, look=False)
    assert not waiting.has_room("default", "noop", "1")
    await waiting.asked(NOOP, 2, ready.ask, look=False)
    assert ready.asked == 2


async def test_a_later_look_gives_way_to_an_earlier_one() -> None:
    waiting = Waiting(lambda: 0)
    word = waiting.word
    waiting.wake_at(60_000)
    waiting.wake_at(1)
    waiting.wake_at(60_000)
    await asyncio.wait_for(word.wait(), 30)
