"""Items: look at them, ask why one does not run, and act on many by number or by filter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from penstock.client.connection import Connection
from penstock.client.filling import filled
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import scheduler_pb2
from penstock.words import numbers_there_are

__all__ = ["ITEM_STATES", "ITEM_VERBS", "Items", "chosen_states"]

ITEM_STATES = {
    name.removeprefix("ITEM_STATE_").lower(): scheduler_pb2.ItemState.Value(name)
    for name in scheduler_pb2.ItemState.keys()[1:]
}
ITEM_VERBS = {
    name.removeprefix("ITEM_VERB_").lower(): scheduler_pb2.ItemVerb.Value(name)
    for name in scheduler_pb2.ItemVerb.keys()[1:]
}

FIRST_LOOK_SECONDS = 0.05
LATER_LOOK_SECONDS = 0.5


def chosen_states(names: Sequence[str]) -> list[scheduler_pb2.ItemState.ValueType]:
    """Item states by their words. Raises InvalidInput that lists the valid ones."""
    unknown = [name for name in names if name not in ITEM_STATES]
    if unknown:
        raise InvalidInput(f"no item state {unknown[0]!r}: one of {', '.join(ITEM_STATES)}", code="bad_state")
    return [ITEM_STATES[name] for name in names]


class Items:
    """What became of each item, and what operators do to them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def page(
        self,
        run_id: str,
        *,
        stage: int = 0,
        states: Sequence[str] = (),
        filter: str = "",  # noqa: A002
        page_size: int = 100,
        page_token: str = "",
        seqs: Sequence[int] = (),
        with_payload: bool = False,
    ) -> scheduler_pb2.ListItemsResponse:
        """filter: as `state = failed AND group = "Razer"`; of items that were leased at least once."""
        request = filled(
            scheduler_pb2.ListItemsRequest,
            run_id=run_id,
            stage=stage,
            states=chosen_states(states),
            page_size=page_size,
            page_token=page_token,
            seqs=seqs,
            with_payload=with_payload,
            filter=filter,
        )
        return await self._connection.read(lambda: self._connection.scheduler.ListItems(request))

    async def pages(
        self,
        run_id: str,
        *,
        stage: int = 0,
        states: Sequence[str] = (),
        filter: str = "",  # noqa: A002
        page_size: int = 5000,
        with_payload: bool = False,
    ) -> AsyncIterator[Sequence[scheduler_pb2.RunItem]]:
        """Every item of a stage in order of seq, page by page."""
        token = ""
        while True:
            page = await self.page(
                run_id,
                stage=stage,
                states=states,
                filter=filter,
                page_size=page_size,
                page_token=token,
                with_payload=with_payload,
            )
            yield page.items
            token = page.next_page_token
            if not token:
                return

    async def each(
        self,
        run_id: str,
        *,
        stage: int = 0,
        states: Sequence[str] = (),
        filter: str = "",  # noqa: A002
        with_payload: bool = False,
    ) -> AsyncIterator[scheduler_pb2.RunItem]:
        """Every item of a stage in order of seq."""
        pages = self.pages(run_id, stage=stage, states=states, filter=filter, page_size=1000, with_payload=with_payload)
        async for page in pages:
            for item in page:
                yield item

    async def get(self, run_id: str, seq: int, *, stage: int = 0) -> scheduler_pb2.RunItem:
        """With its payload. Raises NotFound."""
        page = await self.page(run_id, stage=stage, seqs=[seq], with_payload=True)
        if not page.items:
            run = await self._connection.read(
                lambda: self._connection.scheduler.GetRun(scheduler_pb2.GetRunRequest(run_id=run_id))
            )
            total = run.stages[stage].counts.total
            if run.plan_removed and 0 <= seq < total:
                raise NotFound(
                    f"item {seq} of stage {stage} of run {run_id} never began, and went with the run's plan, which was "
                    "removed: nothing more is known of it",
                    code="item_not_found",
                )
            there = numbers_there_are(total, "item")
            raise NotFound(f"stage {stage} of run {run_id} has no item {seq}; {there}", code="item_not_found")
        return page.items[0]

    async def explain(self, run_id: str, seq: int, *, stage: int = 0) -> scheduler_pb2.Explanation:
        """Why it is not running, what would change that, since when, and what is ahead of it."""
        request = filled(scheduler_pb2.ExplainItemRequest, run_id=run_id, stage=stage, seq=seq)
        return await self._connection.read(lambda: self._connection.scheduler.ExplainItem(request))

    async def act(
        self,
        run_id: str,
        verb: str,
        *,
        stage: int = 0,
        seqs: Sequence[int] = (),
        filter: str = "",  # noqa: A002
        preview: bool = False,
        reason: str = "",
        request_id: str = "",
    ) -> scheduler_pb2.ItemAction:
        """Retry, skip, release, rerun, front or accept, of these items or of those that the filter names.

        preview: answers the count and changes nothing. A large action goes on after the answer: see `finished`.
        """
        if verb not in ITEM_VERBS:
            raise InvalidInput(f"no action {verb!r}: one of {', '.join(ITEM_VERBS)}", code="bad_verb")
        request = filled(
            scheduler_pb2.ActOnItemsRequest,
            run_id=run_id,
            stage=stage,
            verb=ITEM_VERBS[verb],
            seqs=seqs,
            filter=filter,
            actor=self._connection.actor,
            reason=reason,
            validate_only=preview,
        )

        async def call(chosen: str) -> scheduler_pb2.ItemAction:
            request.request_id = chosen
            return await self._connection.scheduler.ActOnItems(request)

        return await self._connection.idempotent(call, request_id)

    async def action(self, action_id: str) -> scheduler_pb2.ItemAction:
        """How far an action is. Raises NotFound."""
        request = scheduler_pb2.GetItemActionRequest(action_id=action_id)
        return await self._connection.read(lambda: self._connection.scheduler.GetItemAction(request))

    async def finished(
        self,
        action: scheduler_pb2.ItemAction,
        *,
        on_change: Callable[[scheduler_pb2.ItemAction], None] = lambda action: None,
    ) -> scheduler_pb2.ItemAction:
        """The action once it is done; a preview is as it is."""
        pause = FIRST_LOOK_SECONDS
        while action.action_id and not action.done:
            await asyncio.sleep(pause)
            pause = min(pause * 2, LATER_LOOK_SECONDS)
            action = await self.action(action.action_id)
            on_change(action)
        return action
