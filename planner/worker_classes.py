"""Classes of workers, as far as a plan must know them: which there are, and which names their environment has.

They are a setting, since workers are started by others; nothing here asks a worker. Of a class that is not known
nothing is said. Names are compared, values never read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from penstock.runtime.settings import Settings

__all__ = ["ANY_CLASS", "WorkerClasses"]


@dataclass(frozen=True)
class WorkerClasses:
    """environment: by class, the names that its workers have; a class that is not there is not known. only: no plan
    may name another."""

    environment: Mapping[str, frozenset[str]] = field(default_factory=dict)
    only: bool = False

    @classmethod
    def of(cls, settings: Settings, environment: Iterable[str]) -> WorkerClasses:
        """environment: this program's own names. Where the scheduler starts workers as processes of this machine, they
        are started with the same ones, unless the setting says otherwise."""
        found = {name: frozenset(told.environment) for name, told in settings.worker_classes.items()}
        if settings.scheduler.backend == "process":
            found.setdefault(settings.worker.worker_class, frozenset(environment))
        return cls(found, only=bool(settings.worker_classes))

    def problem(self, name: str) -> str:
        """Why no plan may name it; empty when it may."""
        if not self.only or name in self.environment:
            return ""
        return f"there is no worker class {name!r}; there are: {', '.join(sorted(self.environment))}"

    def lacks(self, name: str, needs: Iterable[str]) -> list[str]:
        """What is needed and not there, of a class that is known."""
        has = self.environment.get(name)
        return [] if has is None else [need for need in needs if need not in has]


ANY_CLASS = WorkerClasses()
"""None is known, and any may be named."""
