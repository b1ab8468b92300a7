"""What a preview lists is what runs, in that order: any selection and order, by real planner and real scheduler.

One worker, one item at a time: the order of grants is the order of starts. All is asked over gRPC, as clients ask it;
what should come first is said here by Python's `sorted`.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.runtime.channel import calling
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as pb
from penstock.v1 import sources_pb2 as sp
from planner.domain.natural import natural_key
from tests.integration.planner.planned import Plans
from tests.integration.scheduler.world import World, completed

ONE_AT_A_TIME = [planner_pb2.StageSpec(processor="noop", concurrency=1)]
CASES = 30
Row = dict[str, Any]


@pytest.fixture
async def plans(tmp_path: Path, redis_url: str) -> AsyncIterator[Plans]:
    url = f"sqlite:///{tmp_path}/scheduler.db"
    # A lease that ran out while the machine stood still would be given out once more, in another place of the order.
    world = await World.start(tmp_path, redis_url, url, knows_scheduler=True, lease_term_seconds=60.0)
    try:
        yield Plans(world)
    finally:
        await world.stop()


def drawn_rows(draw: random.Random) -> list[Row]:
    """Equal texts, texts that are equal but for case, numbers within texts, absent cells, other scripts."""
    keys = draw.sample([f"{stem}{n}" for stem in ("p", "P", "item ", "é", "\U0001f600", "a/b/") for n in range(12)], 24)
    return [
        {
            "id": key,
            "brand": draw.choice(["Razer", "razer", "Acer 9", "Acer 10", "Ä", None]),
            "model": draw.choice(["M9", "M10", "m 9", "", "É1", None]),
            "price": draw.choice([0, -0.5, 9, 10, 9007199254740993, None]),
            "sold": draw.choice([True, False, None]),
        }
        for key in keys
    ]


def drawn_request(draw: random.Random, rows: list[Row]) -> tuple[sp.Selection, sp.Ordering]:
    keys = [row["id"] for row in rows]
    selection = sp.Selection(again=True, exclude_keys=draw.sample(keys, draw.choice([0, 0, 3])))
    how = draw.choice(["all", "keys", "filter"])
    if how == "all":
        selection.all = True
    elif how == "keys":
        selection.keys.keys.extend(draw.sample(keys, draw.randint(12, 20)))
    else:
        selection.filter = draw.choice(["brand:a", "NOT price > 9", "sold is null OR model:m", 'brand in ("Ä", Razer)'])
    selection.limit = draw.choice([0, 0, 5])
    groups = ["Razer", "razer", "Acer 9", "Acer 10", "Ä", "", "Nobody"]
    ordering = sp.Ordering(
        pinned=draw.sample(groups, draw.randint(0, 2)), groups=draw.sample(groups, draw.randint(0, 3))
    )
    if how == "keys" and draw.random() < 0.5:
        ordering.as_selected = True
    elif draw.random() < 0.8:
        columns = draw.sample(["brand", "model", "price", "sold", "id"], draw.randint(1, 3))
        ordering.sort.extend(f"{column}{draw.choice(['', ' desc', ' asc'])}" for column in columns)
    return selection, ordering


TAKEN = {
    "brand:a": lambda row: "a" in (row["brand"] or "").lower(),
    "NOT price > 9": lambda row: not (row["price"] is not None and row["price"] > 9),
    "sold is null OR model:m": lambda row: row["sold"] is None or "m" in (row["model"] or "").lower(),
    'brand in ("Ä", Razer)': lambda row: row["brand"] in ("Ä", "Razer"),
}


def expected(rows: list[Row], selection: sp.Selection, ordering: sp.Ordering) -> list[str]:
    listed = list(selection.keys.keys)
    chosen = [
        row
        for row in rows
        if (row["id"] in listed if listed else TAKEN.get(selection.filter, lambda _: True)(row))
        and row["id"] not in selection.exclude_keys
    ]
    chosen.sort(key=lambda row: row["id"].encode())
    for text in reversed(ordering.sort or ([] if ordering.as_selected else ["brand", "model"])):
        column, _, direction = text.partition(" ")

        def value(row: Row, column: str = column) -> Any:
            if column in ("brand", "model", "id"):
                return natural_key(row[column] or "")
            return () if row[column] is None else (row[column],)

        chosen.sort(key=value, reverse=direction == "desc")
    if ordering.as_selected:
        chosen.sort(key=lambda row: listed.index(row["id"]))
    ranks = list(dict.fromkeys([*ordering.pinned, *ordering.groups]))
    chosen.sort(key=lambda row: ranks.index(row["brand"] or "") if (row["brand"] or "") in ranks else len(ranks))
    return [row["id"] for row in chosen][: selection.limit or None]


async def previewed(plans: Plans, plan_id: str) -> list[str]:
    """By pages, as a grid reads it."""
    keys = list[str]()
    while True:
        query = sp.RowQuery(skip=len(keys), page_size=7)
        with calling():
            page = await plans.stub.ReadPlanRows(planner_pb2.ReadPlanRowsRequest(plan_id=plan_id, query=query))
        if not page.rows:
            assert len(keys) == page.total
            return keys
        assert [row.position for row in page.rows] == list(range(len(keys), len(keys) + len(page.rows)))
        keys += [row.key for row in page.rows]


async def started(plans: Plans, plan_id: str, count: int) -> list[str]:
    """Keys in the order in which a worker is given them."""
    with calling():
        run = await plans.world.runs.StartRun(pb.StartRunRequest(plan_id=plan_id, actor="ann", confirm=True))
    worker, keys = plans.world.worker(), list[str]()
    while len(keys) < count:
        leases = await worker.leases(8, wait=20.0)
        assert len(leases) == 1, "one at a time"
        keys.append(leases[0].key)
        assert not await worker.report(run.run_id, [completed(leases[0], {})])
    assert (await plans.world.runs.GetRun(pb.GetRunRequest(run_id=run.run_id))).state == pb.RUN_STATE_COMPLETED
    await worker.end()
    return keys


@pytest.mark.timeout(240)
async def test_any_selection_and_order_runs_as_its_preview_lists_it(plans: Plans) -> None:
    draw = random.Random(5)
    rows = drawn_rows(draw)
    await plans.catalog(b"".join(json.dumps(row).encode() + b"\n" for row in rows), name="odd")
    ran = set[str]()
    for number in range(CASES):
        selection, ordering = drawn_request(draw, rows)
        wanted = expected(rows, selection, ordering)
        about = f"case {number}: {selection} {ordering}"
        if not wanted:
            continue
        asked: dict[str, Any] = {"source_id": "odd", "ordering": ordering, "stages": ONE_AT_A_TIME}
        preview = await plans.plan(selection, **asked, validate_only=True)
        keys = await previewed(plans, preview.plan_id)
        assert keys == wanted, about
        assert (await plans.plan(selection, **asked)).plan_id == preview.plan_id, about
        assert await started(plans, preview.plan_id, preview.item_count) == keys, about
        ran.add(preview.plan_id)
    assert len(ran) >= CASES * 2 // 3, "too many of the drawn cases are empty or alike"
