"""Which pods of a worker class are made, drained and removed: facts in, instructions out. Pure.

The cap is held by names. A pod is named by release, class and slot, and slots are numbers below the class's limit: so
the API server itself refuses a second pod of a slot, whoever asks and however old what he knows is. No generation
stands in the name: with one, a create that was long under way would come beside the pod that has replaced it. The
generation is a label, and makes the session's name, so that no session is used twice.

What counts is what the API says: every pod that has not ended, those that are being removed too. What is remembered
(`Memory`) is only when to try again, and may be lost at any time.

A worker that is busy is never deleted. It is told to drain, takes nothing new from then on, and is removed when it
holds nothing more. Only what its node has lost goes at once: its leases have run out, and fences refuse what it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum

from scheduler.domain.rules import Kind

__all__ = [
    "API",
    "Bury",
    "ClassSpec",
    "Create",
    "Death",
    "Delete",
    "Drain",
    "Instruction",
    "Memory",
    "Phase",
    "Pod",
    "Sessions",
    "Timing",
    "Trouble",
    "decide",
    "refused",
]

FIRST_BACKOFF_MS, MAX_BACKOFF_MS = 1_000, 300_000
AWAY_MS = 1_000
API = "api"
"""The code of what says nothing about the class: nobody answered."""
WAVE = 4
"""Of the workers that are wanted, one in so many may be away for another template, until those that come serve."""
QUOTA = "quota"
"""The code of a refusal that ends when another pod does."""


class Phase(StrEnum):
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


@dataclass(frozen=True)
class Trouble:
    """Why a class has not the workers that it wants: a stable code, what is wrong, and what would mend it."""

    code: str
    text: str
    advice: str


@dataclass(frozen=True)
class Death:
    """How a pod ended. kind: of the failures of what it held; clean: by itself, as it should."""

    kind: Kind
    text: str
    clean: bool = False


@dataclass(frozen=True, kw_only=True)
class Pod:
    """A pod as the API last told it. template: hash of what it was made from; unready_ms: since when one that runs is
    not ready; removal_ms: when its removal is due (None: nobody removes it); stuck: why it does not start; waits: it
    does so for room or a permit, which a new pod would do too."""

    name: str
    uid: str
    session: str
    worker_class: str
    slot: int
    generation: int
    template: str
    phase: Phase
    create_ms: int
    ready: bool = False
    unready_ms: int | None = None
    removal_ms: int | None = None
    stuck: Trouble | None = None
    waits: bool = False
    death: Death | None = None
    node: str = ""

    @property
    def live(self) -> bool:
        return self.phase not in (Phase.SUCCEEDED, Phase.FAILED)

    @property
    def terminating(self) -> bool:
        return self.removal_ms is not None


@dataclass(frozen=True, kw_only=True)
class ClassSpec:
    """A class as it is configured. slots: leases that a worker of it holds; most: its limit of pods."""

    name: str
    slots: int
    most: int
    template: str
    grace_seconds: int = 60


@dataclass(frozen=True, kw_only=True)
class Sessions:
    """What SQL says of sessions, read at one time. seen: has called, ever; busy: holds leases; draining: is told to
    drain, and is granted nothing since; silent: has given no sign for some terms."""

    seen: Set[str] = frozenset()
    busy: Set[str] = frozenset()
    draining: Set[str] = frozenset()
    silent: Set[str] = frozenset()


@dataclass(frozen=True)
class Timing:
    """start: a pod that has not become ready by then is replaced; lost: a pod on a node that is not heard of is given
    up after this; idle: workers beyond what is wanted are kept for so long; young: one that ends sooner has failed."""

    start_ms: int = 300_000
    lost_ms: int = 300_000
    idle_ms: int = 20_000
    young_ms: int = 30_000


@dataclass(frozen=True, kw_only=True)
class Memory:
    """template: that the rest was learned of, None before the first turn; failures: in a row; not_before_ms: nothing is
    made before; surplus_ms: since when there are too many; judged: uids of pods whose failure is counted; refusal: of
    the latest create, until one is taken."""

    template: str | None = None
    failures: int = 0
    not_before_ms: int = 0
    surplus_ms: int | None = None
    judged: frozenset[str] = field(default_factory=frozenset)
    refusal: Trouble | None = None
    trouble: Trouble | None = None


@dataclass(frozen=True)
class Create:
    """A pod for this slot. A name that is taken already is as good."""

    slot: int


@dataclass(frozen=True)
class Drain:
    """Its session is told to take nothing new."""

    pod: Pod
    reason: str


@dataclass(frozen=True)
class Delete:
    """It holds nothing, or (grace 0) is lost with its node. grace_seconds None: the class's own."""

    pod: Pod
    reason: str
    grace_seconds: int | None = None


@dataclass(frozen=True)
class Bury:
    """It has ended: its session ends, its log is kept, its name becomes free."""

    pod: Pod


Instruction = Create | Drain | Delete | Bury


def decide(
    spec: ClassSpec,
    pods: Sequence[Pod],
    *,
    wanted: int,
    sessions: Sessions,
    memory: Memory,
    now_ms: int,
    timing: Timing = Timing(),
) -> tuple[list[Instruction], Memory]:
    """What to do now about the pods of a class. wanted: workers that the work could use, however many may be."""
    wanted = min(wanted, spec.most)
    orders: list[Instruction] = [Bury(pod) for pod in pods if not pod.live]
    live = [pod for pod in pods if pod.live]
    memory = _judge(pods, sessions, _of_template(memory, spec.template), now_ms, timing)
    removed: set[str] = set()
    for pod in live:
        order = _removal(pod, sessions, now_ms, timing)
        if order is not None:
            orders.append(order)
            removed.add(pod.uid)
    serving = [
        pod for pod in live if not pod.terminating and pod.session not in sessions.draining and pod.uid not in removed
    ]
    drains, memory = _drains(
        _Class(spec, wanted, sessions, memory, now_ms, timing), serving, busy=_busy_draining(live, sessions)
    )
    orders += drains
    # What drains and is still busy does work that is counted, and takes none: others take its place, within the cap.
    leaving = sessions.draining | {drain.pod.session for drain in drains}
    busy = sum(1 for pod in live if pod.session in sessions.busy & leaving)
    count = min(wanted + busy, spec.most) - len(live)
    if count <= 0:
        memory = replace(memory, refusal=None)
    elif now_ms >= memory.not_before_ms:
        if memory.trouble is not None or memory.failures:
            # One pod at a time finds out whether it is mended.
            count = min(count, 1 - sum(1 for pod in live if not _serves(pod, sessions)))
        taken = {pod.slot for pod in pods}
        free = (slot for slot in range(spec.most) if slot not in taken)
        orders += [Create(slot) for slot, _ in zip(free, range(count), strict=False)]
    return orders, memory


def refused(memory: Memory, trouble: Trouble | None, now_ms: int) -> Memory:
    """After creates that the API answered: refused so, or (None) taken."""
    if trouble is None:
        return replace(memory, refusal=None)
    if trouble.code == API:
        # No word about the class; when it answers again nothing is to be caught up with.
        return replace(memory, trouble=trouble, not_before_ms=now_ms + AWAY_MS)
    failures = memory.failures + 1
    return replace(memory, failures=failures, refusal=trouble, trouble=trouble, not_before_ms=_after(failures, now_ms))


def _of_template(memory: Memory, template: str) -> Memory:
    """What another template has failed by says nothing of this one, which may be the mend: it is tried at once."""
    if memory.template in (None, template):
        return replace(memory, template=template)
    return replace(memory, template=template, failures=0, not_before_ms=0, refusal=None)


def _serves(pod: Pod, sessions: Sessions) -> bool:
    return pod.ready or pod.session in sessions.seen


def _after(failures: int, now_ms: int) -> int:
    return now_ms + min(FIRST_BACKOFF_MS << min(max(failures - 1, 0), 20), MAX_BACKOFF_MS)


def _judge(pods: Sequence[Pod], sessions: Sessions, memory: Memory, now_ms: int, timing: Timing) -> Memory:
    """Counts each failure once, and says what the trouble is."""
    known = {pod.uid for pod in pods}
    judged = {uid for uid in memory.judged if uid in known}
    failures, not_before = memory.failures, memory.not_before_ms
    trouble = memory.refusal
    failed = {pod.uid: why for pod in pods if (why := _failure(pod, sessions, now_ms, timing)) is not None}
    if failed:
        trouble = trouble or next(iter(failed.values()))
    if failed.keys() - judged:
        # Those that fail at once fail for one reason.
        judged |= failed.keys()
        failures += 1
        not_before = max(not_before, _after(failures, now_ms))
    if trouble is None and failures and any(_proven(pod, sessions, now_ms, timing) for pod in pods):
        failures = not_before = 0
    if trouble is None and failures:
        trouble = memory.trouble
    stuck = next((pod.stuck for pod in pods if pod.live and pod.stuck is not None), None)
    return replace(
        memory,
        failures=failures,
        not_before_ms=not_before,
        judged=frozenset(judged),
        trouble=stuck or trouble,
    )


def _proven(pod: Pod, sessions: Sessions, now_ms: int, timing: Timing) -> bool:
    """It has called, or runs for long enough: what made others fail is over. One that ends at once was ready too."""
    lasted = pod.ready and now_ms - pod.create_ms >= timing.young_ms
    return pod.live and (lasted or pod.session in sessions.seen)


def _failure(pod: Pod, sessions: Sessions, now_ms: int, timing: Timing) -> Trouble | None:
    """What is wrong with a pod, so that the next one may well fare no better."""
    if pod.death is not None and not pod.live and not pod.death.clean:
        # One that has called, and ends, ends by what it ran: items have their own rules for that.
        if pod.removal_ms is None and pod.session not in sessions.seen | sessions.draining:
            return Trouble(
                "crash",
                f"worker pod {pod.name} ended before it had begun to work: {pod.death.text}",
                f"read its log: penstock workers logs {pod.session}",
            )
        return None
    if _late(pod, sessions, now_ms, timing):
        return pod.stuck or Trouble(
            "never_ready",
            f"worker pod {pod.name} was not ready {timing.start_ms // 1000} s after it was made",
            f"look at it: kubectl describe pod {pod.name}",
        )
    return None


def _late(pod: Pod, sessions: Sessions, now_ms: int, timing: Timing) -> bool:
    fresh = pod.live and not pod.terminating and not _serves(pod, sessions)
    return fresh and not pod.waits and now_ms - pod.create_ms >= timing.start_ms


def _removal(pod: Pod, sessions: Sessions, now_ms: int, timing: Timing) -> Instruction | None:
    """What is removed whatever is wanted."""
    busy = pod.session in sessions.busy
    if pod.terminating:
        overdue = now_ms - (pod.removal_ms or 0) >= timing.lost_ms
        return Delete(pod, "its node does not end it", 0) if overdue and not busy else None
    unready = pod.unready_ms is not None and not pod.ready and now_ms - pod.unready_ms >= timing.lost_ms
    if unready and not busy and pod.session in sessions.silent:
        return Delete(pod, "its node is lost: it is not ready, and its worker gives no sign", 0)
    if pod.session in sessions.draining:
        return None if busy else Delete(pod, "it is drained")
    if _late(pod, sessions, now_ms, timing) and not busy:
        return Drain(pod, "it never became ready")
    return None


@dataclass(frozen=True)
class _Class:
    """What is decided by."""

    spec: ClassSpec
    wanted: int
    sessions: Sessions
    memory: Memory
    now_ms: int
    timing: Timing


def _drains(by: _Class, serving: Sequence[Pod], *, busy: int) -> tuple[list[Drain], Memory]:
    """Whom to tell to drain: above the cap, of an old template, or too many for long enough. busy: how many drain
    already, and are not done."""
    spec, sessions, memory = by.spec, by.sessions, by.memory

    def key(pod: Pod) -> tuple[bool, bool, bool, int]:
        return (pod.slot < spec.most, pod.session in sessions.busy, _serves(pod, sessions), -pod.slot)

    order = sorted(serving, key=key)
    chosen: dict[str, Drain] = {}
    for pod in order:
        if pod.slot >= spec.most or len(serving) - len(chosen) > spec.most:
            chosen[pod.uid] = Drain(pod, f"its class may have {spec.most} workers")
    wave = max(1, -(-by.wanted // WAVE))
    away = _away(by, [pod for pod in serving if pod.uid not in chosen], wave)
    for pod in order:
        if pod.template == spec.template or pod.uid in chosen:
            continue
        works, serves = pod.session in sessions.busy, _serves(pod, sessions)
        if (works and busy >= wave) or (serves and away >= wave):
            continue
        busy += works
        away += serves
        chosen[pod.uid] = Drain(pod, "its class has a new template")
    left = [pod for pod in order if pod.uid not in chosen]
    surplus = len(left) - by.wanted
    if surplus <= 0:
        return list(chosen.values()), replace(memory, surplus_ms=None)
    since = memory.surplus_ms if memory.surplus_ms is not None else by.now_ms
    if by.now_ms - since < by.timing.idle_ms:
        return list(chosen.values()), replace(memory, surplus_ms=since)
    idle = [pod for pod in left if pod.session not in sessions.busy][:surplus]
    # Where all are busy with little, the last ones finish what they have, a few at a time.
    told = idle or left[: max(1, surplus // WAVE)]
    chosen |= {pod.uid: Drain(pod, "it is no longer needed") for pod in told}
    return list(chosen.values()), replace(memory, surplus_ms=by.now_ms)


def _away(by: _Class, staying: Sequence[Pod], wave: int) -> int:
    """How many workers that are wanted do not serve: they drain, start, or can't be made. A template that never comes
    up so leaves most of the old ones at work. Whom only the room of another lets in, a wave of them, is not counted:
    it waits for us."""
    waiting = sum(pod.waits for pod in staying)
    if by.memory.refusal is not None and by.memory.refusal.code == QUOTA:
        waiting += max(0, by.wanted - len(staying))
    return by.wanted - sum(_serves(pod, by.sessions) for pod in staying) - min(waiting, wave)


def _busy_draining(live: Iterable[Pod], sessions: Sessions) -> int:
    return sum(1 for pod in live if pod.session in sessions.busy & sessions.draining)
