"""gRPC of runs, put together: what changes them, and what shows them."""

from __future__ import annotations

from penstock.runtime.sql import Database
from scheduler.commands import Commands
from scheduler.engine import Engine
from scheduler.explaining import Explainer
from scheduler.item_rows import ItemRows
from scheduler.listing import ItemList
from scheduler.operator_service import OperatorCalls
from scheduler.seeing_service import SeeingCalls

__all__ = ["SchedulerService"]


class SchedulerService(OperatorCalls, SeeingCalls):
    def __init__(
        self,
        commands: Commands,
        engine: Engine,
        database: Database,
        items: ItemList,
        rows: ItemRows,
        explainer: Explainer,
    ) -> None:
        OperatorCalls.__init__(self, engine, database, commands)
        SeeingCalls.__init__(self, engine, database, items, rows, explainer)
