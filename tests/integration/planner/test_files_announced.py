"""A file that was written and that no row came to name goes by itself, whatever kept the row from being made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import calling
from penstock.runtime.errors import Unavailable
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2 as p
from penstock.v1 import sources_pb2 as sp
from planner.removals.dropped_files import KEPT_MS, DroppedFiles
from planner.store import Store
from tests.integration.planner.conftest import Planner
from tests.integration.planner.planned import NOOP, rows

Making = Callable[[Planner], Awaitable[object]]

PLAIN = b'{"key": "a"}\n'
LIMITED = b'{"key": "a", "payload": {"limits": ["domain:a"]}}\n{"key": "b"}\n'


@pytest.fixture
def dropped(planner: Planner, database_url: str) -> Iterator[DroppedFiles]:
    database = Database(database_url, "planner")
    yield DroppedFiles(database, BlobStore(planner.blobs), planner.clock)
    database.close()


def blobs_of(planner: Planner) -> set[str]:
    return {path for path in planner.left_behind() if not path.startswith(".")}


async def catalog(planner: Planner) -> p.Source:
    header = p.CreateSourceRequest.Header(kind=p.SOURCE_KIND_CATALOG, name="mice", actor="ann")
    file = p.CreateSourceRequest.File(name="mice.jsonl")
    return await planner.send(
        [p.CreateSourceRequest(header=header), p.CreateSourceRequest(file=file), p.CreateSourceRequest(chunk=rows())]
    )


async def items(planner: Planner) -> p.Source:
    return await planner.items(PLAIN)


async def items_under_limits(planner: Planner) -> p.Source:
    return await planner.items(LIMITED)


async def nothing(planner: Planner) -> None:
    """Is there before."""


async def planned(planner: Planner) -> p.Plan:
    return await planner.items_plan(PLAIN)


async def planned_under_limits(planner: Planner) -> p.Plan:
    return await planner.items_plan(LIMITED)


async def planned_of_rows(planner: Planner) -> p.Plan:
    return await planner.plan("mice", stages=NOOP, selection=sp.Selection(filter="price > 10", again=True))


async def derived(planner: Planner) -> p.Plan:
    with calling():
        (plan,) = (await planner.stub.ListPlans(p.ListPlansRequest())).plans
        header = p.DerivePlanRequest.Header(plan_id=plan.plan_id, stage=0)
        chosen = p.DerivePlanRequest.Seqs(seqs=[0])
        return await planner.stub.DerivePlan(
            iter([p.DerivePlanRequest(header=header), p.DerivePlanRequest(seqs=chosen)])
        )


@pytest.mark.parametrize(
    ("before", "what", "row", "file_count"),
    [
        (nothing, catalog, "keep_source", 1),
        (nothing, items, "keep_source", 1),
        (items, planned, "keep_plan", 1),
        (items_under_limits, planned_under_limits, "keep_plan", 2),
        (catalog, planned_of_rows, "keep_plan", 1),
        (planned_under_limits, derived, "keep_plan", 2),
    ],
)
async def test_what_no_row_names_goes_after_its_hour_and_what_one_names_stays(
    planner: Planner,
    dropped: DroppedFiles,
    monkeypatch: pytest.MonkeyPatch,
    before: Making,
    what: Making,
    row: str,
    file_count: int,
) -> None:
    def died(*_: object, **__: object) -> None:
        raise Unavailable("killed", code="disk_full")

    def swept() -> int:
        """Files that go, an hour after they were seen."""
        assert dropped.sweep() == 0, "not before its hour"
        planner.clock.ms += KEPT_MS
        return dropped.sweep()

    await before(planner)
    there = blobs_of(planner)
    with monkeypatch.context() as patch:
        patch.setattr(Store, row, died)
        with pytest.raises(Unavailable, match="killed"):
            await what(planner)
    assert len(blobs_of(planner) - there) == file_count
    assert swept() == file_count
    assert blobs_of(planner) == there

    await what(planner)
    kept = blobs_of(planner)
    assert len(kept - there) == file_count
    assert swept() == 0
    assert blobs_of(planner) == kept
