"""Every lease that this worker holds, and until when it may trust it.

Pure bookkeeping: no gRPC, no clock of its own. Times are monotonic seconds handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from penstock.v1 import scheduler_pb2 as pb

__all__ = ["Call", "Held", "HeldLease", "LeaseKey"]

LeaseKey = tuple[str, int, int, int]
"""(run id, stage, seq, attempt)."""


@dataclass(eq=False)
class Call:
    """One call of a processor, over `left` leases; `revoked` is called when none of them is left."""

    left: int
    revoked: Callable[[], None]


class HeldLease:
    """One lease. `trusted_until` is monotonic; `call` is what executes it now. Its key is asked for often."""

    __slots__ = ("begun", "call", "key", "lease", "phase", "progress", "run_id", "stage", "trusted_until")

    def __init__(self, run_id: str, stage: int, lease: pb.Lease, trusted_until: float) -> None:
        self.run_id = run_id
        self.stage = stage
        self.lease = lease
        self.trusted_until = trusted_until
        self.key: LeaseKey = (run_id, stage, lease.seq, lease.attempt)
        self.begun = False
        self.progress = 0.0
        self.phase = ""
        self.call: Call | None = None


class Held:
    """The leases of this session."""

    def __init__(self) -> None:
        self._leases: dict[LeaseKey, HeldLease] = {}
        self._newest: dict[tuple[str, int, int], HeldLease] = {}
        """Of each item that is held, its latest attempt."""

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[HeldLease]:
        return iter(self._leases.values())

    def add(self, lease: HeldLease) -> bool:
        """Takes a lease in; False when it is held already (an answer that came twice), or a later attempt of its item
        is. An earlier one that has not begun (its run was stopped and goes on; no renewal has told so yet) is dropped:
        begun now, it would run beside the later one."""
        before = self._newest.get(lease.key[:3])
        if before is not None:
            if before.lease.attempt >= lease.lease.attempt:
                return False
            if not before.begun:
                self.drop([before.key])
        self._leases[lease.key] = self._newest[lease.key[:3]] = lease
        return True

    def drop(self, keys: Iterable[LeaseKey]) -> None:
        for key in keys:
            self._gone(key)

    def _gone(self, key: LeaseKey) -> HeldLease | None:
        lease = self._leases.pop(key, None)
        if lease is not None and self._newest.get(key[:3]) is lease:
            del self._newest[key[:3]]
        return lease

    def holds(self, lease: HeldLease) -> bool:
        return self._leases.get(lease.key) is lease

    def revoke(self, key: LeaseKey) -> None:
        """The scheduler took it back: its outcome will not be reported. A call that has lost all its leases is told."""
        lease = self._gone(key)
        if lease is not None and lease.call is not None:
            lease.call.left -= 1
            if not lease.call.left:
                lease.call.revoked()

    def get(self, key: LeaseKey) -> HeldLease | None:
        return self._leases.get(key)

    def renewed(self, keys: Iterable[LeaseKey], until: float) -> None:
        for key in keys:
            lease = self._leases.get(key)
            if lease is not None:
                lease.trusted_until = until

    def batches(self) -> list[pb.HeldBatch]:
        """What to renew: everything held, by stage."""
        by_stage: dict[tuple[str, int], pb.HeldBatch] = {}
        for lease in self._leases.values():
            key = lease.run_id, lease.stage
            if key not in by_stage:
                by_stage[key] = pb.HeldBatch(run_id=lease.run_id, stage=lease.stage)
            by_stage[key].leases.add(
                seq=lease.lease.seq,
                attempt=lease.lease.attempt,
                begun=lease.begun,
                progress=lease.progress,
                phase=lease.phase,
            )
        return list(by_stage.values())
