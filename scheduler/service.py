"""gRPC of runs, put together: what changes them (`operator_service`), what shows them (`seeing_service`), and plans
that are let go of (`release_service`).

One servicer, since the contract is one service; several files, since who only reads may not write.
"""

from __future__ import annotations

from penstock.runtime.sql import Database
from scheduler.actions import Actions
from scheduler.changes import Changes
from scheduler.cloning import Cloning
from scheduler.commands import Commands
from scheduler.engine import Engine
from scheduler.explaining import Explainer
from scheduler.item_rows import ItemRows
from scheduler.listing import ItemList
from scheduler.operator_service import OperatorCalls
from scheduler.release_service import ReleaseCalls
from scheduler.seeing_service import SeeingCalls

__all__ = ["SchedulerService"]


class SchedulerService(OperatorCalls, ReleaseCalls, SeeingCalls):
    def __init__(
        self,
        engine: Engine,
        database: Database,
        *,
        commands: Commands,
        changes: Changes,
        actions: Actions,
        cloning: Cloning,
        items: ItemList,
        rows: ItemRows,
        explainer: Explainer,
    ) -> None:
        OperatorCalls.__init__(
            self, engine, database, commands=commands, changes=changes, actions=actions, cloning=cloning
        )
        SeeingCalls.__init__(self, engine, database, items, rows, explainer)
