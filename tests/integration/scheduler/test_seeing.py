"""What a person sees of a run: its summary, its events by subject, its ledger."""

from __future__ import annotations

import time

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from penstock.v1 import scheduler_pb2 as pb
from tests.integration.scheduler.world import World, completed, failed


async def summary(world: World, run_id: str) -> pb.RunSummary:
    return await world.runs.GetRunSummary(pb.GetRunSummaryRequest(run_id=run_id), timeout=10)


async def test_a_summary_shows_what_runs_the_oldest_first_with_its_phase(world: World) -> None:
    run_id = await world.run(60)
    worker = world.worker()
    first, second = await worker.leases(1), await worker.leases(30)
    lease = first[0]
    held = pb.HeldLease(seq=lease.seq, attempt=lease.attempt, begun=True, progress=0.5, phase="reading")
    batch = pb.HeldBatch(run_id=run_id, stage=0, leases=[held])
    await worker.stub.Renew(pb.RenewRequest(session=worker.session, held=[batch]), timeout=10)
    told = await summary(world, run_id)
    assert told.run.run_id == run_id
    assert told.run.counts.running == 31
    assert [item.seq for item in told.running] == list(range(20))
    assert (told.running[0].key, told.running[0].phase, told.running[0].progress) == ("k0", "reading", 0.5)
    assert told.running[0].attempt == 1
    assert told.running[0].start_time.ToMilliseconds() > 0
    assert told.running[1].phase == ""
    assert not told.eta.known
    assert "0 of the first 20" in told.eta.reason
    assert await worker.report(run_id, [completed(one) for one in [*first, *second]]) == []


async def test_a_summary_groups_failures_and_tells_speed_and_end(world: World) -> None:
    run_id = await world.run(40, max_tries=1)
    worker = world.worker()
    leases = await worker.leases(30)
    outcomes = [completed(lease) for lease in leases[:24]]
    outcomes += [failed(lease, f"page {n} of 7 is empty") for n, lease in enumerate(leases[24:29])]
    outcomes.append(failed(leases[29], "no such host"))
    assert await worker.report(run_id, outcomes) == []
    told = await summary(world, run_id)
    assert [(group.count, group.kind) for group in told.failures] == [(5, "item"), (1, "item")]
    group = told.failures[0]
    assert (group.example_seq, group.example_key, group.example_error) == (24, "k24", "page 0 of 7 is empty")
    assert told.failure_groups == 2
    items = await world.runs.ListItems(pb.ListItemsRequest(run_id=run_id, seqs=[24, 28, 29]), timeout=10)
    assert [item.fingerprint == group.fingerprint for item in items.items] == [True, True, False]
    assert told.throughput.last_hour == 30
    assert told.throughput.items_per_second > 0
    assert told.eta.known
    assert told.eta.early_time.ToMilliseconds() <= told.eta.late_time.ToMilliseconds()


async def test_a_summary_puts_the_end_off_until_a_closed_limit_opens(world: World) -> None:
    await world.limits.CloseLimit(pb.CloseLimitRequest(key="domain:shut", actor="ann"))
    run_id = await world.run(60, payload=lambda i: {"limits": ["domain:shut"]} if i < 30 else {})
    worker = world.worker()
    leases: list[pb.Lease] = []
    while len(leases) < 30:
        leases += await worker.leases(30)
    assert await worker.report(run_id, [completed(lease) for lease in leases]) == []
    told = await summary(world, run_id)
    assert told.eta.reason == "not known: 30 items wait at limit domain:shut, which is closed until somebody opens it"
    until = Timestamp(seconds=told.run.create_time.seconds + 3_600)
    await world.limits.CloseLimit(pb.CloseLimitRequest(key="domain:shut", until_time=until))
    told = await summary(world, run_id)
    assert told.eta.known
    assert until.seconds <= told.eta.early_time.seconds <= told.eta.late_time.seconds < until.seconds + 600
    await world.limits.OpenLimit(pb.OpenLimitRequest(key="domain:shut"))
    assert (await summary(world, run_id)).eta.late_time.seconds < until.seconds


async def test_a_summary_puts_the_end_off_until_the_last_deferred_item_is_due(world: World) -> None:
    run_id = await world.run(50)
    worker = world.worker()
    leases = await worker.leases(50)
    due = int(time.time()) + 3_600
    later = [pb.Outcome(seq=lease.seq, attempt=1, kind=pb.OUTCOME_KIND_DEFERRED) for lease in leases[40:]]
    for back, outcome in enumerate(later):
        outcome.until_time.seconds = due - back
    assert await worker.report(run_id, [completed(lease) for lease in leases[:40]] + later) == []
    told = await summary(world, run_id)
    assert told.eta.known
    assert due <= told.eta.early_time.seconds <= told.eta.late_time.seconds < due + 600
    await world.limits.CloseLimit(pb.CloseLimitRequest(key="domain:other", actor="ann"))
    assert (await summary(world, run_id)).eta.early_time.seconds >= due


async def test_the_end_is_not_known_while_stopped_retries_hold_items(world: World) -> None:
    run_id = await world.run(50)
    worker = world.worker()
    leases = await worker.leases(48)
    await world.runs.SetRetries(pb.SetRetriesRequest(allowed=False, actor="ann", reason="nonsense"))
    assert await worker.report(run_id, [completed(lease) for lease in leases[:45]]) == []
    assert (await summary(world, run_id)).eta.known, "nothing is held by it yet"
    assert await worker.report(run_id, [failed(lease) for lease in leases[45:]]) == []
    why = "not known: 3 items wait to be retried, and all retries were stopped by ann: nonsense"
    assert (await summary(world, run_id)).eta.reason == why
    await world.runs.SetRetries(pb.SetRetriesRequest(allowed=True, actor="ann"))
    assert (await summary(world, run_id)).eta.known


async def test_a_summary_of_a_paused_run_says_that_its_end_is_not_known(world: World) -> None:
    run_id = await world.run(5)
    await world.runs.PauseRun(pb.RunCommand(run_id=run_id))
    told = await summary(world, run_id)
    assert (told.eta.known, told.eta.reason) == (False, "not known: the run is paused")


async def test_a_summary_of_no_run_names_the_newest(world: World) -> None:
    run_id = await world.run(1)
    with pytest.raises(grpc.aio.AioRpcError) as told:
        await summary(world, "run-nowhere")
    assert told.value.code() is grpc.StatusCode.NOT_FOUND
    assert run_id in (told.value.details() or "")


async def test_events_are_listed_by_subject(world: World) -> None:
    run_id = await world.run(2)
    worker = world.worker()
    leases = await worker.leases(2)
    assert await worker.report(run_id, [completed(lease) for lease in leases]) == []
    request = pb.ListEventsRequest(run_id=run_id, subject="stage:0")
    found = (await world.runs.ListEvents(request, timeout=10)).events
    assert [(event.type, event.new_state) for event in found] == [
        ("stage.state", "running"),
        ("stage.state", "completed"),
    ]
    request = pb.ListEventsRequest(run_id=run_id, subject="stage:0", page_size=1)
    page = await world.runs.ListEvents(request, timeout=10)
    request.page_token = page.next_page_token
    rest = await world.runs.ListEvents(request, timeout=10)
    assert ([*page.events, *rest.events], rest.next_page_token) == (list(found), "")


async def test_pages_of_events_hold_while_more_happens(world: World) -> None:
    run_id = await world.run(8)
    worker = world.worker()
    leases = await worker.leases(8)

    async def one_fails() -> None:
        assert await worker.report(run_id, [failed(leases.pop(), permanent=True)]) == []

    for _ in range(3):
        await one_fails()
    seen: list[int] = []
    request = pb.ListEventsRequest(run_id=run_id, after_number=1, page_size=2)
    while not seen or request.page_token:
        page = await world.runs.ListEvents(request, timeout=10)
        seen += [event.number for event in page.events]
        request.page_token = page.next_page_token
        if leases:
            await one_fails()
    assert len(seen) > 6
    assert seen == list(range(2, len(seen) + 2)), "none twice, and none left out"


async def test_a_page_token_that_is_none_of_ours_is_refused(world: World) -> None:
    run_id = await world.run(1)
    with pytest.raises(grpc.aio.AioRpcError, match="none of ours"):
        await world.runs.ListEvents(pb.ListEventsRequest(run_id=run_id, page_token="7x"), timeout=10)
    with pytest.raises(grpc.aio.AioRpcError, match="none of ours"):
        await world.runs.ListLedger(pb.ListLedgerRequest(run_id=run_id, page_token="-1"), timeout=10)


async def test_the_ledger_of_a_run_that_cost_nothing_is_empty(world: World) -> None:
    run_id = await world.run(1)
    answer = await world.runs.ListLedger(pb.ListLedgerRequest(run_id=run_id), timeout=10)
    assert (list(answer.entries), answer.next_page_token) == ([], "")


async def test_the_ledger_is_read_page_by_page(world: World) -> None:
    run_id = await world.run(5, payload=lambda i: {"cost_micros": 10})
    worker = world.worker()
    for _ in range(5):
        (lease,) = await worker.leases(1)
        one = completed(lease)
        one.cost_micros = 10
        assert await worker.report(run_id, [one]) == []
    request = pb.ListLedgerRequest(run_id=run_id, page_size=2)
    pages: list[list[int]] = []
    while not pages or request.page_token:
        answer = await world.runs.ListLedger(request, timeout=10)
        pages.append([entry.seq for entry in answer.entries])
        request.page_token = answer.next_page_token
    assert pages == [[0, 1], [2, 3], [4]]
    whole = await world.runs.ListLedger(pb.ListLedgerRequest(run_id=run_id, after_number=3), timeout=10)
    assert [entry.seq for entry in whole.entries] == [3, 4]


async def test_a_page_of_the_ledger_ends_within_what_was_recorded_together(world: World) -> None:
    run_id = await world.run(7, payload=lambda i: {"cost_micros": 10})
    worker = world.worker()
    for count in (5, 2):
        together = [completed(lease) for lease in await worker.leases(count)]
        for one in together:
            one.cost_micros = 10
        assert await worker.report(run_id, together) == []
    whole = await world.runs.ListLedger(pb.ListLedgerRequest(run_id=run_id), timeout=10)
    assert len({entry.number for entry in whole.entries}) < len(whole.entries) == 7, "some share a number"
    assert not whole.next_page_token
    for size in (1, 2, 3, 5, 6, 7):
        request = pb.ListLedgerRequest(run_id=run_id, page_size=size)
        found: list[pb.LedgerEntry] = []
        while not found or request.page_token:
            answer = await world.runs.ListLedger(request, timeout=10)
            assert len(answer.entries) == min(size, 7 - len(found)), "no page is short, none is empty"
            found += answer.entries
            request.page_token = answer.next_page_token
        assert found == list(whole.entries)
    for token in ("1.x", "1.-1", "x.1"):
        with pytest.raises(grpc.aio.AioRpcError, match="none of ours"):
            await world.runs.ListLedger(pb.ListLedgerRequest(run_id=run_id, page_token=token), timeout=10)
