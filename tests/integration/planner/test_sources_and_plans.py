"""Sources become plans, plans are read window by window."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.channel import calling
from penstock.runtime.errors import AlreadyExists, InvalidInput, NotFound
from penstock.runtime.sql import Database
from penstock.v1 import planner_pb2
from planner.domain.stages import StageSettings
from planner.removals.dropped_files import DroppedFiles
from planner.removals.rows import RemovalRows
from planner.store import PlanRow, SourceRow, StageRow, Store
from tests.integration.planner.conftest import FakeClock, Planner
from tests.servers.schemas import prepared


def lines(count: int, *, size: int = 0) -> bytes:
    return b"".join(
        json.dumps({"key": f"k{i}", "group": f"g{i % 3}", "payload": {"n": i, "x": "x" * size}}).encode() + b"\n"
        for i in range(count)
    )


async def test_documents_keep_their_bytes_order_and_names(planner: Planner) -> None:
    files = [("b.txt", b"second"), ("sub/a.txt", b"first"), ("b.txt", b"again"), ("b.txt", b"third")]
    source = await planner.files(files)
    assert (source.item_count, source.size_bytes, source.ignored_count) == (4, 21, 0)
    plan = await planner.plan(source.source_id)
    assert [s.processor for s in plan.stages] == ["document", "collection"]
    assert (plan.granularity, plan.draft, plan.item_count) == ("sentence", False, 4)
    answer = await planner.read(plan.plan_id)
    assert [i.key for i in answer.items] == ["b.txt", "sub/a.txt", "b (2).txt", "b (3).txt"]
    assert [i.seq for i in answer.items] == [0, 1, 2, 3]
    assert answer.end
    for item, (_, data) in zip(answer.items, files, strict=True):
        payload = json.loads(item.payload)
        assert payload == {"filename": item.key, "blob": hashlib.sha256(data).hexdigest(), "size": len(data)}
        assert (planner.blobs / payload["blob"][:2] / payload["blob"][2:]).read_bytes() == data
    collection = await planner.read(plan.plan_id, stage=1)
    assert [(i.key, json.loads(i.payload)) for i in collection.items] == [("collection", {"documents_stage": 0})]


async def test_same_content_is_same_source_and_same_plan(planner: Planner) -> None:
    one, two = await planner.items(lines(5)), await planner.items(b"\n" + lines(5).replace(b"\n", b"\r\n\n"))
    assert one.source_id == two.source_id
    assert (await planner.items(lines(6))).source_id != one.source_id
    noop = [planner_pb2.StageSpec(processor="noop")]
    first = await planner.plan(one.source_id, stages=noop, name="a")
    again = await planner.plan(one.source_id, stages=noop, name="b")
    assert (first.plan_id, again.name) == (again.plan_id, "b")
    other = await planner.plan(one.source_id, stages=[planner_pb2.StageSpec(processor="noop", concurrency=7)])
    assert other.plan_id != first.plan_id


async def test_windows_cover_a_plan_once_in_order(planner: Planner) -> None:
    plan = await planner.items_plan(lines(25_000))
    seen: list[int] = []
    after = -1
    while True:
        answer = await planner.read(plan.plan_id, after_seq=after, limit=3_000)
        seen += [i.seq for i in answer.items]
        assert all(i.key == f"k{i.seq}" and json.loads(i.payload)["n"] == i.seq for i in answer.items)
        if answer.end:
            break
        after = answer.items[-1].seq
    assert seen == list(range(25_000))
    exact = await planner.read(plan.plan_id, seqs=[24_999, 3, 10_240, 3])
    assert [i.seq for i in exact.items] == [24_999, 3, 10_240, 3]
    assert (await planner.read(plan.plan_id, after_seq=24_999)).end
    with pytest.raises(NotFound, match="has no item 25000"):
        await planner.read(plan.plan_id, seqs=[25_000])
    with pytest.raises(InvalidInput, match="limit is 10001"):
        await planner.read(plan.plan_id, limit=10_001)
    with pytest.raises(NotFound, match="has no stage 1"):
        await planner.read(plan.plan_id, stage=1)


async def test_large_payloads_shorten_the_window(planner: Planner) -> None:
    plan = await planner.items_plan(lines(40, size=1_000_000))
    answer = await planner.read(plan.plan_id, limit=40)
    assert 10 < len(answer.items) < 20
    assert not answer.end
    assert [i.seq for i in answer.items] == list(range(len(answer.items)))
    rest = await planner.read(plan.plan_id, after_seq=answer.items[-1].seq, limit=40)
    assert rest.items[0].seq == answer.items[-1].seq + 1
    exact = await planner.read(plan.plan_id, seqs=list(range(39, 9, -1)))
    assert [i.seq for i in exact.items] == list(range(39, 39 - len(exact.items), -1))
    assert 10 < len(exact.items) < 20


async def test_a_preview_is_the_plan_and_ends_after_a_day(planner: Planner) -> None:
    source = await planner.items(lines(3))
    noop = [planner_pb2.StageSpec(processor="noop")]
    draft = await planner.plan(source.source_id, stages=noop, validate_only=True)
    assert draft.draft
    assert len((await planner.read(draft.plan_id)).items) == 3
    planner.clock.advance(24 * 3600 + 1)
    with pytest.raises(NotFound, match="no plan"):
        await planner.read(draft.plan_id)
    draft = await planner.plan(source.source_id, stages=noop, validate_only=True)
    kept = await planner.plan(source.source_id, stages=noop)
    assert (kept.plan_id, kept.draft) == (draft.plan_id, False)
    again = await planner.plan(source.source_id, stages=noop, validate_only=True)
    assert not again.draft
    planner.clock.advance(48 * 3600)
    assert len((await planner.read(kept.plan_id)).items) == 3


async def test_a_draft_that_is_kept_has_no_end(planner: Planner) -> None:
    source = await planner.items(lines(3))
    draft = await planner.plan(source.source_id, stages=[planner_pb2.StageSpec(processor="noop")], validate_only=True)
    assert (await planner.keep(draft.plan_id)) == (await planner.keep(draft.plan_id))
    planner.clock.advance(24 * 3600 + 1)
    assert len((await planner.read(draft.plan_id)).items) == 3
    assert not (await planner.keep(draft.plan_id)).draft


async def test_a_draft_past_its_end_cannot_be_kept(planner: Planner) -> None:
    source = await planner.items(lines(3))
    draft = await planner.plan(source.source_id, stages=[planner_pb2.StageSpec(processor="noop")], validate_only=True)
    planner.clock.advance(24 * 3600 + 1)
    with pytest.raises(NotFound, match="kept for a day"):
        await planner.keep(draft.plan_id)
    with pytest.raises(NotFound, match="no plan 'x'"):
        await planner.keep("x")


async def test_request_ids_answer_the_same_and_refuse_another(planner: Planner) -> None:
    source = await planner.items(lines(3), request_id="r1")
    assert (await planner.items(lines(3), request_id="r1")).source_id == source.source_id
    with pytest.raises(AlreadyExists, match="r1"):
        await planner.items(lines(4), request_id="r1")
    noop = [planner_pb2.StageSpec(processor="noop")]
    plan = await planner.plan(source.source_id, stages=noop, request_id="r1")
    assert (await planner.plan(source.source_id, stages=noop, request_id="r1")).plan_id == plan.plan_id
    with pytest.raises(AlreadyExists, match="r1"):
        await planner.plan(
            source.source_id, stages=[planner_pb2.StageSpec(processor="noop", max_tries=1)], request_id="r1"
        )


async def test_a_nul_is_refused_by_its_field(planner: Planner) -> None:
    source = await planner.items(lines(1))
    noop = planner_pb2.StageSpec(processor="noop")
    calls = {
        "source_id": planner.plan("a\0", stages=[noop]),
        "name": planner.plan(source.source_id, stages=[noop], name="a\0"),
        "request_id": planner.plan(source.source_id, stages=[noop], request_id="a\0"),
        "stage 0: worker_class": planner.plan(
            source.source_id, stages=[planner_pb2.StageSpec(processor="noop", worker_class="\0")]
        ),
        "plan_id": planner.read("\0"),
    }
    for field, call in calls.items():
        with pytest.raises(InvalidInput, match=f"^{field} has a NUL") as told:
            await call
        assert told.value.code == "bad_text"
    with pytest.raises(InvalidInput, match=r"^request_id has a NUL"):
        await planner.items(lines(2), request_id="\0")


async def test_parameters_are_bounded_in_depth(planner: Planner) -> None:
    source = await planner.items(lines(1))
    deep = planner_pb2.StageSpec(processor="noop", parameters=b'{"x":' + b"[" * 252 + b"]" * 252 + b"}")
    with pytest.raises(InvalidInput, match="parameters are nested more than 100 deep"):
        await planner.plan(source.source_id, stages=[deep])


async def test_wrong_stages_are_told_all_at_once(planner: Planner) -> None:
    source = await planner.items(lines(1))
    bad = planner_pb2.StageSpec(processor="nope", concurrency=-1, max_tries=1000, max_run_seconds=-5)
    with pytest.raises(InvalidInput) as told:
        await planner.plan(source.source_id, stages=[bad])
    for part in (
        "concurrency is -1",
        "max_tries is 1000",
        "max_run_seconds is -5",
        "no processor named 'nope'",
        "noop",
    ):
        assert part in told.value.message
    with pytest.raises(InvalidInput, match="no_such"):
        await planner.plan(
            source.source_id, stages=[planner_pb2.StageSpec(processor="noop", parameters=b'{"no_such": 1}')]
        )
    with pytest.raises(InvalidInput, match="exactly one stage"):
        await planner.plan(source.source_id)
    with pytest.raises(InvalidInput, match="not a JSON object"):
        await planner.plan(source.source_id, stages=[planner_pb2.StageSpec(processor="noop", parameters=b"[]")])
    with pytest.raises(NotFound, match="no source"):
        await planner.plan("source-0", stages=[bad])
    documents = await planner.files([("a.txt", b"x")])
    with pytest.raises(InvalidInput, match="sentence or paragraph"):
        await planner.plan(documents.source_id, granularity="word")
    with pytest.raises(InvalidInput, match="document, collection"):
        await planner.plan(documents.source_id, stages=[planner_pb2.StageSpec(processor="noop")])


async def test_a_plan_of_documents_can_be_made_again_from_its_own_stages(planner: Planner) -> None:
    source = await planner.files([("a.txt", b"x")])
    plan = await planner.plan(source.source_id, granularity="paragraph", validate_only=True)
    specs = [
        planner_pb2.StageSpec(
            processor=s.processor,
            parameters=s.parameters,
            concurrency=s.concurrency,
            max_tries=s.max_tries,
            max_run_seconds=s.max_run_seconds,
            worker_class=s.worker_class,
        )
        for s in plan.stages
    ]
    again = await planner.plan(source.source_id, granularity="paragraph", stages=specs)
    assert (again.plan_id, again.draft) == (plan.plan_id, False)


async def test_processors_are_listed_with_their_schema(planner: Planner) -> None:
    listed = (await planner.stub.ListProcessors(planner_pb2.ListProcessorsRequest())).processors
    by_name = {p.name: p for p in listed}
    assert {"document", "collection", "noop"} <= by_name.keys()
    assert "granularity" in json.loads(by_name["document"].parameters_schema)["properties"]
    assert all(p.version and p.description for p in listed)


async def test_checks_answer(planner: Planner) -> None:
    for check in planner.service.checks.values():
        await check()


async def test_a_source_is_found_by_its_id(planner: Planner) -> None:
    source = await planner.items(lines(3))
    with calling():
        assert await planner.stub.GetSource(planner_pb2.GetSourceRequest(source_id=source.source_id)) == source
    with pytest.raises(NotFound, match="no source 'x'"), calling():
        await planner.stub.GetSource(planner_pb2.GetSourceRequest(source_id="x"))
    with pytest.raises(NotFound, match="no plan 'x'"), calling():
        await planner.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id="x"))


async def test_the_sweep_removes_drafts_and_requests_past_their_time(database_url: str, tmp_path: Path) -> None:
    database = Database(database_url, "planner")
    prepared(database)
    store = Store(database)
    store.keep_source(SourceRow("s", 2, 1, 0, 0, "0" * 64, 0, (0,), 0), request_id="r", now_ms=0)
    stage = StageRow(StageSettings("noop", "1", {}, 64, 5, 600, "default"), 1, (0,))
    for plan_id, expire_ms in (("kept", None), ("draft", 1_000), ("later", 5_000)):
        row = PlanRow(plan_id, "s", 2, "", "", (stage,), "0" * 64, 0, 0, expire_ms)
        kept = store.keep_plan(row, request_id="", now_ms=0)
        assert kept == replace(row, uid=kept.uid)
    removals = RemovalRows(database, DroppedFiles(database, BlobStore(tmp_path), FakeClock()))
    assert removals.sweep_drafts(now_ms=1_000) == 1
    assert [store.find_plan(i, now_ms=1_000) is not None for i in ("kept", "draft", "later")] == [True, False, True]
    with pytest.raises(AlreadyExists):
        store.keep_source(SourceRow("t", 2, 1, 0, 0, "0" * 64, 0, (0,), 0), request_id="r", now_ms=1)
    assert store.find_source("t") is None
    assert store.sweep(now_ms=24 * 3_600_000 + 1) == 1
    store.keep_source(SourceRow("t", 2, 1, 0, 0, "0" * 64, 0, (0,), 0), request_id="r", now_ms=1)
    database.close()
