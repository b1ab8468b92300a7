"""A file that was written and that no row came to name goes by itself, whatever kept the row from being made."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from penstock.runtime.errors import Unavailable
from penstock.v1 import planner_pb2 as p
from planner.store import Store
from tests.integration.planner.conftest import Planner
from tests.integration.planner.planned import rows

NOOP = [p.StageSpec(processor="noop")]


def blobs_of(planner: Planner) -> set[str]:
    return {path for path in planner.left_behind() if not path.startswith(".")}


async def register(planner: Planner) -> p.Source:
    header = p.CreateSourceRequest.Header(kind=p.SOURCE_KIND_CATALOG, name="mice", actor="ann")
    file = p.CreateSourceRequest.File(name="mice.jsonl")
    return await planner.send(
        [p.CreateSourceRequest(header=header), p.CreateSourceRequest(file=file), p.CreateSourceRequest(chunk=rows())]
    )


async def items(planner: Planner) -> p.Source:
    return await planner.items(b'{"key": "a"}\n')


async def planned(planner: Planner) -> p.Plan:
    return await planner.plan((await items(planner)).source_id, stages=NOOP)


@pytest.mark.parametrize(("what", "row"), [(register, "keep_source"), (items, "keep_source"), (planned, "keep_plan")])
async def test_what_no_row_names_goes_after_its_hour_and_what_one_names_stays(
    planner: Planner, monkeypatch: pytest.MonkeyPatch, what: Callable[[Planner], Awaitable[object]], row: str
) -> None:
    def died(*_: object, **__: object) -> None:
        raise Unavailable("killed", code="disk_full")

    if what is planned:
        await items(planner)
    before = blobs_of(planner)
    with monkeypatch.context() as patch:
        patch.setattr(Store, row, died)
        with pytest.raises(Unavailable, match="killed"):
            await what(planner)
    assert len(blobs_of(planner) - before) == 1

    monkeypatch.setattr("planner.__main__.SWEEP_SECONDS", 0.01)
    sweep = asyncio.ensure_future(planner.service.loops["sweep"]())
    try:
        async with asyncio.timeout(30):
            while blobs_of(planner) != before:
                planner.clock.advance(3_700)
                await asyncio.sleep(0.05)
        await what(planner)
        kept = blobs_of(planner)
        assert len(kept - before) == 1
        for _ in range(20):
            planner.clock.advance(3_700)
            await asyncio.sleep(0.05)
        assert blobs_of(planner) == kept
    finally:
        sweep.cancel()
