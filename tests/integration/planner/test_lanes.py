"""Lanes: the limit keys of items, asked once; windows of some lanes, or of all but some."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import InvalidInput
from penstock.v1 import planner_pb2
from planner import reading
from planner.parquet import Parquet
from tests.integration.planner.conftest import Planner

NOOP = [planner_pb2.StageSpec(processor="noop")]


def lines(keys: Sequence[Sequence[object]], *, size: int = 0) -> bytes:
    """An item for each list of keys."""
    return b"".join(
        json.dumps({"key": f"k{i}", "payload": {"limits": list(some), "x": "x" * size}}).encode() + b"\n"
        for i, some in enumerate(keys)
    )


async def plan_of(planner: Planner, keys: Sequence[Sequence[object]], *, size: int = 0) -> str:
    source = await planner.items(lines(keys, size=size))
    return (await planner.plan(source.source_id, stages=NOOP)).plan_id


async def lanes_of(planner: Planner, plan_id: str, **fields: object) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    token = ""
    while True:
        request = planner_pb2.ListPlanLanesRequest(plan_id=plan_id, page_token=token, **fields)  # type: ignore[arg-type]
        with calling():
            answer = await planner.stub.ListPlanLanes(request)
        found += [(lane.lane, lane.count, lane.first_seq) for lane in answer.lanes]
        token = answer.next_page_token
        if not token:
            return found


async def walked(planner: Planner, plan_id: str, limit: int, **fields: object) -> list[int]:
    """The seqs of all windows, one after the other, by `last_seq`."""
    seen: list[int] = []
    after = -1
    while True:
        answer = await planner.read(plan_id, after_seq=after, limit=limit, **fields)
        assert len(answer.items) <= limit
        assert answer.last_seq > after or answer.end
        assert all(after < item.seq <= answer.last_seq for item in answer.items)
        seen += [item.seq for item in answer.items]
        after = answer.last_seq
        if answer.end:
            return seen


async def test_a_lane_is_the_sorted_keys_of_an_item(planner: Planner) -> None:
    quoted = "domain:a,\"b'\\ü=1"
    keys = [["provider:x", "domain:b"], [], ["domain:b", "provider:x", "domain:b"], [quoted], []]
    plan_id = await plan_of(planner, keys)
    items = (await planner.read(plan_id)).items
    assert [item.lane for item in items] == ["domain:b provider:x", "", "domain:b provider:x", quoted, ""]
    assert await lanes_of(planner, plan_id) == [("domain:b provider:x", 2, 0), ("", 2, 1), (quoted, 1, 3)]
    assert await lanes_of(planner, plan_id, page_size=1) == await lanes_of(planner, plan_id)
    exact = await planner.read(plan_id, seqs=[3, 0])
    assert [item.lane for item in exact.items] == [quoted, "domain:b provider:x"]


async def test_windows_of_lanes_cover_them_once_in_order(planner: Planner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_FIRST_SPAN", 1_000)
    count = 25_000
    names = ["domain:a" if i < 9_000 else f"domain:{i * 7919 % 13}" if i % 3 else "" for i in range(count)]
    plan_id = await plan_of(planner, [[name] if name else [] for name in names])
    everything = range(count)
    for only in (["domain:a"], ["domain:3", "", "domain:none"], ["domain:none"]):
        wanted = [i for i in everything if names[i] in only]
        assert await walked(planner, plan_id, 700, only_lanes=only) == wanted
        wanted = [i for i in everything if names[i] not in only]
        assert await walked(planner, plan_id, 3_000, without_lanes=only) == wanted
    answer = await planner.read(plan_id, after_seq=10_000, limit=5, only_lanes=["domain:3"])
    assert [item.seq for item in answer.items] == [i for i in everything if i > 10_000 and names[i] == "domain:3"][:5]
    assert all(item.lane == "domain:3" and item.key == f"k{item.seq}" for item in answer.items)
    skipped = await planner.read(plan_id, after_seq=-1, limit=2, without_lanes=["domain:a"])
    assert [item.seq for item in skipped.items] == [9_000, 9_001]


async def test_large_payloads_shorten_windows_of_lanes(planner: Planner) -> None:
    plan_id = await plan_of(planner, [["domain:a"] if i % 2 else ["domain:b"] for i in range(60)], size=1_000_000)
    answer = await planner.read(plan_id, limit=60, only_lanes=["domain:a"])
    assert 10 < len(answer.items) < 20
    assert answer.last_seq == answer.items[-1].seq
    assert await walked(planner, plan_id, 60, only_lanes=["domain:a"]) == list(range(1, 60, 2))


async def test_a_plan_without_keys_is_of_one_lane(planner: Planner) -> None:
    plan_id = await plan_of(planner, [[]] * 5)
    assert await lanes_of(planner, plan_id) == [("", 5, 0)]
    assert await walked(planner, plan_id, 2, only_lanes=["", "domain:a"]) == [0, 1, 2, 3, 4]
    assert await walked(planner, plan_id, 2, without_lanes=["domain:a"]) == [0, 1, 2, 3, 4]
    for fields in ({"only_lanes": ["domain:a"]}, {"without_lanes": [""]}):
        answer = await planner.read(plan_id, **fields)
        assert (len(answer.items), answer.end, answer.last_seq) == (0, True, 4)


async def test_keys_that_are_none_refuse_the_plan_with_their_items(planner: Planner) -> None:
    keys: list[list[object]] = [["domain:ok"]] * 20
    keys[3:6] = [["no kind"], ["Domain:x"], [7]]
    keys[8], keys[9] = [f"domain:{i}" for i in range(9)], ["lane:1"]
    keys[10] = [f"domain:{i}{'字' * 190}" for i in range(4)]
    source = await planner.items(lines(keys))
    with pytest.raises(InvalidInput) as told:
        await planner.plan(source.source_id, stages=NOOP)
    assert told.value.code == "bad_limit_keys"
    for words in (
        "item 3 ('k3'): limit key 'no kind' is not `kind:name`",
        "item 4 ('k4'): limit key 'Domain:x'",
        "item 5 ('k5'): a limit key is int, not text",
        "item 8 ('k8'): it names 9 limit keys, 8 are possible",
        "item 9 ('k9'): limit key 'lane:1' begins with lane:, which the scheduler uses itself",
        "item 10 ('k10'): its limit keys have 2,312 bytes together, 2,000 are possible",
    ):
        assert words in told.value.message, words
    all_wrong = await planner.items(lines([["?"]] * 50))
    with pytest.raises(InvalidInput, match="and 40 more"):
        await planner.plan(all_wrong.source_id, stages=NOOP)


async def test_lanes_of_a_window_are_taken_or_left_out(planner: Planner) -> None:
    plan_id = await plan_of(planner, [["domain:a"]])
    with pytest.raises(InvalidInput, match="not both"):
        await planner.read(plan_id, only_lanes=["a"], without_lanes=["b"])
    with pytest.raises(InvalidInput, match="at most 10,000"):
        await planner.read(plan_id, only_lanes=[str(i) for i in range(10_001)])


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each reading of some lanes has made."""
    counts: list[int] = []
    original = Parquet.read_filtered

    def counted(self: Parquet, *args: object, **fields: object) -> object:
        rows = original(self, *args, **fields)  # type: ignore[arg-type]
        counts.append(len(rows))
        return rows

    monkeypatch.setattr(Parquet, "read_filtered", counted)
    return counts


async def test_a_page_does_not_pay_for_the_lane_left_out(planner: Planner, read: list[int]) -> None:
    count = 60_000
    plan_id = await plan_of(planner, [["domain:closed"] if i % 20 else ["domain:open"] for i in range(count)])
    started = time.process_time()
    rest = await walked(planner, plan_id, 1_000, without_lanes=["domain:closed"])
    assert time.process_time() - started < 2.0
    assert len(rest) == sum(read) == count // 20, "what is left out is never made an item"
    assert len(read) <= 3, "and items are read ahead of the pages"


async def test_who_follows_behind_another_finds_what_was_read_ahead(
    planner: Planner, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_id = await plan_of(planner, [["domain:closed"] if i < 100 else ["domain:open"] for i in range(30_000)])
    fields = {"without_lanes": ["domain:closed"]}
    for after in range(99, 29_000, 500):
        await planner.read(plan_id, after_seq=after, limit=1_000, **fields)
        behind = await planner.read(plan_id, after_seq=max(99, after - 6_250), limit=1_000, **fields)
        assert behind.items[0].seq == max(99, after - 6_250) + 1
    assert sum(read) < 31_000, "each item was made once"
    monkeypatch.setattr(reading, "_CACHE_BYTES", 0)
    assert await walked(planner, plan_id, 1_000, **fields) == list(range(100, 30_000))
    assert await walked(planner, plan_id, 700, **fields) == list(range(100, 30_000))
