"""Pods by the pure rules: the cap in every instant, whoever acts on whatever he knew; nobody busy is deleted; storms
stop; workers of old templates give way."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.domain.pods import (
    Bury,
    ClassSpec,
    Create,
    Death,
    Delete,
    Drain,
    Instruction,
    Memory,
    Phase,
    Pod,
    Sessions,
    Timing,
    Trouble,
    decide,
    refused,
)
from scheduler.domain.rules import Kind

SPEC = ClassSpec(name="default", slots=4, most=5, template="t1")
TIMING = Timing(start_ms=60_000, lost_ms=60_000, idle_ms=1_000, young_ms=5_000)
QUOTA = Trouble("quota", "used up", "raise it")


def pod(slot: int, **changes: object) -> Pod:
    one = Pod(
        name=f"r-default-{slot}", uid=f"u{slot}", session=f"r-default-{slot}-1", worker_class="default", slot=slot,
        generation=1, template="t1", phase=Phase.RUNNING, create_ms=0, ready=True,
    )  # fmt: skip
    return replace(one, **changes)  # type: ignore[arg-type]


def orders(
    pods: list[Pod], wanted: int, *, spec: ClassSpec = SPEC, memory: Memory | None = None, now_ms: int = 1_000,
    **of_sessions: frozenset[str],
) -> tuple[list[Instruction], Memory]:  # fmt: skip
    sessions = Sessions(**{"seen": frozenset(one.session for one in pods), **of_sessions})
    return decide(spec, pods, wanted=wanted, sessions=sessions, memory=memory or Memory(), now_ms=now_ms, timing=TIMING)


def creates(found: list[Instruction]) -> list[int]:
    return [order.slot for order in found if isinstance(order, Create)]


def drained(found: list[Instruction]) -> list[int]:
    return [order.pod.slot for order in found if isinstance(order, Drain)]


def names(*slots: int) -> frozenset[str]:
    return frozenset(f"r-default-{slot}-1" for slot in slots)


def test_as_many_are_made_as_are_wanted_and_never_more_than_the_limit() -> None:
    assert creates(orders([], 3)[0]) == [0, 1, 2]
    assert creates(orders([], 99)[0]) == [0, 1, 2, 3, 4]
    assert creates(orders([pod(1), pod(3)], 4)[0]) == [0, 2]


def test_what_is_being_removed_counts_until_it_is_gone() -> None:
    leaving = [pod(slot, removal_ms=31_000) for slot in range(5)]
    assert creates(orders(leaving, 5)[0]) == []


def test_an_ended_pod_counts_for_nothing_and_keeps_its_name_until_it_is_buried() -> None:
    ended = pod(0, phase=Phase.FAILED, ready=False, death=Death(Kind.WORKER_LOST, "exit code 1"))
    found, _ = orders([ended, pod(1)], 5)
    assert [order.pod.slot for order in found if isinstance(order, Bury)] == [0]
    assert creates(found) == [2, 3, 4]


def test_idle_workers_go_first_and_the_last_slots_before_others() -> None:
    pods = [pod(slot) for slot in range(5)]
    memory = Memory(surplus_ms=0)
    found, memory = orders(pods, 2, memory=memory, now_ms=5_000, busy=names(4, 2))
    assert drained(found) == [3, 1, 0], "the busy ones are spared while there are idle ones"
    assert not [order for order in found if isinstance(order, Delete)]


def test_too_many_for_a_moment_is_no_reason() -> None:
    found, memory = orders([pod(0), pod(1)], 1, now_ms=500)
    assert drained(found) == []
    assert memory.surplus_ms == 500
    assert drained(orders([pod(0), pod(1)], 1, memory=memory, now_ms=1_499)[0]) == []
    assert drained(orders([pod(0), pod(1)], 1, memory=memory, now_ms=1_500)[0]) == [1]


def test_where_all_are_busy_with_little_the_last_ones_finish_and_leave() -> None:
    pods = [pod(slot) for slot in range(5)]
    found, _ = orders(pods, 2, memory=Memory(surplus_ms=0), now_ms=5_000, busy=names(0, 1, 2, 3, 4))
    assert drained(found) == [4]


def test_who_drains_is_deleted_only_when_it_holds_nothing() -> None:
    pods = [pod(0), pod(1)]
    found, _ = orders(pods, 0, draining=names(0, 1), busy=names(0))
    assert [order.pod.slot for order in found if isinstance(order, Delete)] == [1]


def test_others_take_the_place_of_those_that_drain_and_are_still_busy() -> None:
    found, _ = orders([pod(0), pod(1)], 2, draining=names(0, 1), busy=names(0, 1))
    assert creates(found) == [2, 3]
    found, _ = orders([pod(0), pod(1)], 2, draining=names(0, 1))
    assert creates(found) == [], "idle ones are gone in a moment"


def test_a_limit_of_zero_drains_the_class_at_once() -> None:
    spec = replace(SPEC, most=0)
    found, _ = orders([pod(0), pod(1)], 3, spec=spec, busy=names(0))
    assert sorted(drained(found)) == [0, 1]
    assert creates(found) == []


def test_workers_of_an_old_template_give_way_the_idle_at_once_the_busy_in_waves() -> None:
    spec = replace(SPEC, most=8, template="t2")
    pods = [pod(slot) for slot in range(8)]
    found, _ = orders(pods, 8, spec=spec, busy=names(*range(6)))
    assert sorted(drained(found)) == [6, 7], "a quarter of eight, the idle ones first"
    assert sorted(drained(orders(pods, 4, spec=spec, busy=names(*range(6)))[0])) == [5, 6, 7], "idle ones are no loss"
    new = [pod(slot, template="t2") for slot in range(8)]
    assert drained(orders(new, 8, spec=spec)[0]) == []


def test_the_next_of_an_old_template_stay_until_those_that_came_for_the_last_serve() -> None:
    spec = replace(SPEC, most=3, template="t2")
    old, busy = [pod(0), pod(1)], names(0, 1)
    gone, _ = orders(old, 3, spec=spec, busy=busy)
    assert (drained(gone), creates(gone)) == ([], [2])
    coming = pod(2, template="t2", ready=False)
    assert drained(orders([*old, coming], 3, spec=spec, busy=busy, seen=names(0, 1))[0]) == []
    assert drained(orders([*old, replace(coming, ready=True)], 3, spec=spec, busy=busy)[0]) == [1]


def test_a_template_that_never_comes_up_leaves_most_of_the_old_at_work() -> None:
    spec = replace(SPEC, most=4, template="t2")
    old, busy = [pod(slot) for slot in range(3)], names(0, 1, 2)
    stuck = pod(3, template="t2", phase=Phase.PENDING, ready=False, stuck=Trouble("image", "none", "mend it"))
    assert drained(orders([*old, stuck], 4, spec=spec, busy=busy, seen=busy)[0]) == []


def test_a_new_one_that_waits_for_room_gets_that_of_an_old_one() -> None:
    spec = replace(SPEC, most=4, template="t2")
    old = [pod(slot) for slot in range(3)]
    waits = pod(3, template="t2", phase=Phase.PENDING, ready=False, waits=True)
    assert drained(orders([*old, waits], 4, spec=spec, busy=names(0, 1, 2), seen=names(0, 1, 2))[0]) == [2]
    full = Memory(refusal=QUOTA, trouble=QUOTA, not_before_ms=9_000)
    assert drained(orders(old, 4, spec=spec, busy=names(0, 1, 2), memory=full)[0]) == [2]


def test_an_upgrade_starts_new_ones_beside_the_old_where_the_limit_leaves_room() -> None:
    found, _ = orders([pod(0), pod(1)], 2, spec=replace(SPEC, template="t2"), busy=names(0, 1))
    assert drained(found) == [1]
    assert creates(found) == [2]


def test_a_refused_create_is_told_and_tried_again_later_and_later() -> None:
    memory = Memory()
    waits = []
    for _ in range(12):
        memory = refused(memory, QUOTA, 1_000)
        waits.append(memory.not_before_ms - 1_000)
    assert waits[:4] == [1_000, 2_000, 4_000, 8_000]
    assert waits[-1] == 300_000
    assert memory.trouble == QUOTA
    assert creates(orders([], 5, memory=memory, now_ms=2_000)[0]) == []
    assert creates(orders([], 5, memory=memory, now_ms=400_000)[0]) == [0], "one finds out whether it is mended"


IMAGE = Trouble("image", "no such image", "name the right one")
ADMISSION = Trouble("admission", "the policy knows another image", "mend the class")
STUCK = pod(0, phase=Phase.PENDING, ready=False, stuck=IMAGE)
CRASHED = pod(0, phase=Phase.FAILED, ready=False, death=Death(Kind.WORKER_LOST, "exit code 2"))


@pytest.mark.parametrize(
    ("there", "refusal", "told"),
    [
        ([], ADMISSION, "admission"),  # classes alone were changed: the policy knows of it before us
        ([], QUOTA, "quota"),
        ([STUCK], None, "image"),
        ([CRASHED], None, "crash"),
    ],
    ids=["refused", "no room", "no such image", "ended at once"],
)
@pytest.mark.parametrize("template", ["t1", "t2"])
def test_another_template_is_tried_at_once_whatever_the_last_one_failed_by(
    template: str, there: list[Pod], refusal: Trouble | None, told: str
) -> None:
    now_ms = 60_000
    _, memory = orders(there, 1, memory=Memory(failures=8), now_ms=now_ms, seen=frozenset())
    if refusal is not None:
        memory = refused(memory, refusal, now_ms)
    assert memory.trouble is not None
    assert memory.trouble.code == told
    assert memory.not_before_ms == now_ms + 256_000
    # What there was of the old template is gone by then.
    found, memory = orders([], 3, spec=replace(SPEC, template=template), memory=memory, now_ms=now_ms + 1_000)
    assert creates(found) == ([] if template == "t1" else [0, 1, 2])
    assert (memory.failures > 0) == (template == "t1")
    assert (memory.trouble is None) == (template == "t2")


def test_one_pod_at_a_time_while_none_starts() -> None:
    image = Trouble("image", "no such image", "name the right one")
    stuck = pod(0, phase=Phase.PENDING, ready=False, stuck=image)
    found, memory = orders([stuck], 5, seen=frozenset())
    assert creates(found) == []
    assert memory.trouble == image
    found, memory = orders([pod(0)], 5, memory=memory)
    assert creates(found) == [1, 2, 3, 4]
    assert memory.trouble is None


def test_what_never_becomes_ready_is_replaced_with_growing_pauses() -> None:
    late = pod(0, phase=Phase.PENDING, ready=False)
    found, memory = orders([late], 1, now_ms=60_000, seen=frozenset())
    assert drained(found) == [0]
    assert (memory.failures, memory.not_before_ms) == (1, 61_000)
    assert memory.trouble is not None
    assert memory.trouble.code == "never_ready"
    found, memory = orders([late], 1, memory=memory, now_ms=60_500, seen=frozenset(), draining=names(0))
    assert memory.failures == 1, "each pod is counted once"
    assert [order.pod.slot for order in found if isinstance(order, Delete)] == [0]
    found, memory = orders([], 1, memory=memory, now_ms=60_900)
    assert creates(found) == []
    found, memory = orders([], 1, memory=memory, now_ms=61_000)
    assert creates(found) == [0]


def test_what_waits_for_room_is_left_alone() -> None:
    waits = pod(0, phase=Phase.PENDING, ready=False, waits=True, stuck=Trouble("unschedulable", "no room", "add nodes"))
    found, memory = orders([waits], 1, now_ms=900_000, seen=frozenset())
    assert found == []
    assert memory.trouble is not None


@pytest.mark.parametrize("seen", [False, True])
def test_a_worker_that_ends_before_it_has_called_is_a_failure_of_its_class(seen: bool) -> None:
    ended = pod(0, phase=Phase.FAILED, ready=False, death=Death(Kind.WORKER_LOST, "exit code 2"))
    _, memory = orders([ended], 1, seen=names(0) if seen else frozenset())
    assert memory.failures == (0 if seen else 1)


def test_a_pod_is_given_up_with_its_node_when_its_leases_have_run_out() -> None:
    lost = pod(0, ready=False, unready_ms=0)
    silent = names(0)
    assert orders([lost], 1, now_ms=59_000, silent=silent)[0] == []
    assert orders([lost], 1, now_ms=61_000)[0] == [], "its worker still calls"
    assert orders([lost], 1, now_ms=61_000, busy=names(0), silent=silent)[0] == [], "its leases have not run out"
    (order,) = orders([lost], 1, now_ms=61_000, silent=silent)[0]
    assert isinstance(order, Delete)
    assert order.grace_seconds == 0
    (order,) = orders([pod(0, removal_ms=0)], 1, now_ms=61_000)[0]
    assert isinstance(order, Delete)
    assert order.grace_seconds == 0


@dataclass
class Cluster:
    """The API server, and any number of schedulers that act on what they knew, when they get to it."""

    most: int
    pods: dict[str, Pod] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    draining: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)
    generation: int = 0

    def sessions(self) -> Sessions:
        return Sessions(seen=frozenset(self.seen), busy=frozenset(self.busy), draining=frozenset(self.draining))

    def carry_out(self, order: Instruction) -> None:
        if isinstance(order, Create):
            name = f"r-default-{order.slot}"
            if name not in self.pods:
                self.generation += 1
                self.pods[name] = pod(
                    order.slot, uid=f"u{self.generation}", generation=self.generation, phase=Phase.PENDING,
                    session=f"{name}-{self.generation}", ready=False,
                )  # fmt: skip
        elif isinstance(order, Drain):
            self.draining.add(order.pod.session)
        else:
            now = self.pods.get(order.pod.name)
            if now is None or now.uid != order.pod.uid:
                return  # a removal names the uid
            if isinstance(order, Delete) and order.grace_seconds != 0:
                assert now.session not in self.busy, "a busy worker was deleted"
                self.pods[now.name] = replace(now, removal_ms=0)
            else:
                del self.pods[now.name]

    def check(self) -> None:
        assert sum(1 for one in self.pods.values() if one.live) <= self.most


@given(st.integers(0, 6), st.integers(1, 3), st.integers(0, 2**32), st.integers(10, 120))
@settings(max_examples=150)
def test_the_cap_holds_in_every_instant_whoever_acts_on_whatever_he_knew(
    most: int, schedulers: int, seed: int, steps: int
) -> None:
    """Schedulers die, stand still and wake up with instructions that are long out of date; pods die in between."""
    chance = random.Random(seed)
    cluster = Cluster(most)
    spec = ClassSpec(name="default", slots=2, most=most, template="t1")
    pending: list[list[Instruction]] = [[] for _ in range(schedulers)]
    memories = [Memory() for _ in range(schedulers)]
    now = 0
    for _ in range(steps):
        now += chance.choice((0, 300, 2_000, 70_000))
        who = chance.randrange(schedulers)
        act = chance.random()
        if act < 0.35:
            spec = replace(spec, template=chance.choice(("t1", "t2")))
            pods, sessions = list(cluster.pods.values()), cluster.sessions()
            pending[who], memories[who] = decide(
                spec, pods, wanted=chance.randrange(9), sessions=sessions, memory=memories[who], now_ms=now,
                timing=TIMING,
            )  # fmt: skip
        elif act < 0.7:
            if pending[who]:
                cluster.carry_out(pending[who].pop(chance.randrange(len(pending[who]))))
        elif act < 0.75:
            pending[who], memories[who] = [], Memory()  # it is killed, and comes back
        elif cluster.pods:
            one = cluster.pods[chance.choice(sorted(cluster.pods))]
            fate = chance.random()
            if fate < 0.3:
                cluster.pods[one.name] = replace(one, phase=Phase.RUNNING, ready=True) if one.live else one
                cluster.seen.add(one.session)
            elif fate < 0.6 and one.live and not one.terminating and one.session not in cluster.draining:
                cluster.busy.add(one.session)  # as grants: never of a session that drains
            elif fate < 0.8:
                cluster.busy.discard(one.session)
            elif fate < 0.9:
                death = Death(Kind.WORKER_LOST, "killed")
                cluster.pods[one.name] = replace(one, phase=Phase.FAILED, ready=False, death=death)
                cluster.busy.discard(one.session)
            elif one.terminating:
                del cluster.pods[one.name]
                cluster.busy.discard(one.session)
        cluster.check()


@given(st.integers(0, 6), st.integers(0, 8), st.integers(0, 2**32))
def test_one_that_is_left_alone_comes_to_what_is_wanted(most: int, wanted: int, seed: int) -> None:
    chance = random.Random(seed)
    cluster = Cluster(most)
    for slot in range(6):
        if chance.random() < 0.5 and slot < most:
            cluster.carry_out(Create(slot))
    memory, now = Memory(), 0
    spec = ClassSpec(name="default", slots=2, most=most, template=chance.choice(("t1", "t2")))
    for _ in range(40):
        now += 1_500
        found, memory = decide(
            spec, list(cluster.pods.values()), wanted=wanted, sessions=cluster.sessions(), memory=memory, now_ms=now,
            timing=TIMING,
        )  # fmt: skip
        for order in found:
            cluster.carry_out(order)
        for one in list(cluster.pods.values()):
            if one.terminating:
                del cluster.pods[one.name]
            elif not one.ready:
                cluster.pods[one.name] = replace(one, phase=Phase.RUNNING, ready=True, template=spec.template)
    assert len(cluster.pods) == min(wanted, most)
    assert all(one.live for one in cluster.pods.values())
