"""What a transaction means outside SQL: collected while it runs, carried out in the order of the commits."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Effects"]


@dataclass
class Effects:
    """`forget`, `ready` and `renew` are (run, stage) -> seqs whose lease is let go, that are startable again, whose
    lease is extended. `changed`: numbers of runs whose state, stage or counters changed; `moved`: of these, the ones
    whose states changed. `rebuild`: all leases there are, when Redis is to be made anew from them."""

    forget: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    ready: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    renew: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    moved: set[int] = field(default_factory=set)
    rebuild: dict[tuple[int, int], list[int]] | None = None
