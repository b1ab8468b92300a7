"""Who starts workers: one interface, two backends, one conformance suite.

`process` starts local processes (embedded), `kubernetes` starts bare pods. Both keep as many workers of each class as
the work could use, within the class's limit; both tell a worker that is no longer needed to drain, and never end one
that is busy. What they share: demand (`store/demand.py`), draining (a session is told through the lease protocol, and
is granted nothing from that commit on), the rows of workers (`store/workers.py`), and how the end of a worker becomes
the end of its leases (`Engine.end_session`).

Failure story, of both:

- A worker dies: its session is ended as soon as that is known, so that its leases return at once; its row says how it
  ended, its last lines are kept, and another is started, with back-off when it had not begun to work.
- The scheduler dies: workers go on. The next one finds what lives by asking the machine or the API server, never from
  memory, and adopts it. What was begun and not recorded is found, or never was.
- Two schedulers that both believe they lead (`kubernetes` alone): a slot has one name, so the second pod of it is
  refused by the API server; a session is granted nothing once it is told to drain, whoever told it; whoever removes a
  pod names the very one that it means.
- The machine, or the API server, does not answer: nothing is started or ended; work goes on. It is tried again, later
  and later, and `Backend.classes` tells since when and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["Backend", "ClassNow", "WorkerNow"]


@dataclass(frozen=True, kw_only=True)
class WorkerNow:
    """A worker as its backend sees it now. state: starting, working, removing or ended; note: why, where there is
    more to say."""

    session: str
    worker_class: str
    slot: int
    generation: int
    state: str
    create_ms: int
    place: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ClassNow:
    """A class as its backend has it. most: its limit; code, text, advice: why it has not the workers it wants, and
    what would mend it; all empty where nothing is wrong."""

    name: str
    slots: int
    most: int
    code: str = ""
    text: str = ""
    advice: str = ""
    since_ms: int | None = None


class Backend(Protocol):
    """Keeps workers. Every method raises Unavailable while the machine or API server can't be asked."""

    async def serve(self) -> None:
        """Adopts what lives, then keeps count; runs until cancelled."""

    async def drain(self) -> None:
        """The scheduler is told to stop: workers that end with it drain first."""

    async def workers(self) -> Sequence[WorkerNow]:
        """Everything that there is now, ended ones too while they are not put away."""

    async def classes(self) -> Sequence[ClassNow]:
        """Every class that it starts workers of, in order of name."""

    async def log_tail(self, session: str, most_bytes: int) -> bytes | None:
        """The last bytes that a worker, which it still sees, has written; None: it sees no such worker."""
