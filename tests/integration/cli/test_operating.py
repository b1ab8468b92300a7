"""`penstock items`, `limits`, `budgets`, `gates`, `retries` and what `runs` shows: over services whose answers a test
chooses, by the very command line that users have."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from penstock.cli import app
from penstock.runtime.errors import Conflict, InvalidInput
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as s
from tests.integration.cli.conftest import Answer
from tests.integration.client.services import Services, serving

Told = Callable[..., Awaitable[Answer]]


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with serving(tmp_path) as one:
        where = one.endpoints
        told = {"planner": where.planner, "scheduler": where.scheduler, "analyzer": where.analyzer}
        (tmp_path / "endpoints.json").write_text(json.dumps({**told, "pids": {"supervisor": os.getpid()}}))
        (tmp_path / "token").write_text(where.token or "")
        yield one


@pytest.fixture
def penstock(services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setenv("PENSTOCK_DATA", str(tmp_path))

    def work(arguments: tuple[str, ...]) -> Answer:
        monkeypatch.setattr(sys, "argv", ["penstock", *arguments])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = app.run()
        return Answer(code, out.getvalue(), err.getvalue())

    async def run(*arguments: str) -> Answer:
        return await asyncio.to_thread(work, arguments)

    return run


def items_run(services: Services) -> s.Run:
    run = s.Run(
        run_id="run-1",
        number=1,
        kind=planner_pb2.SOURCE_KIND_ITEMS,
        name="pages",
        state=s.RUN_STATE_WAITING,
        waiting="gate ship",
        owner="ada",
        priority=5,
        stages=[
            s.Stage(
                processor="summarise",
                processor_version="1",
                state=s.STAGE_STATE_RUNNING,
                counts=s.ItemCounts(total=40, completed=20, failed=2, running=1, queued=10, retry=3, deferred=4),
                money=s.Money(budget_micros=9_000_000, spent_micros=1_250_000),
                healed=2,
            )
        ],
        money=s.Money(budget_micros=5_000_000, spent_micros=1_250_000, reserved_micros=300_000, overrun_micros=7),
    )
    run.create_time.FromMilliseconds(1_700_000_000_123)
    services.state.runs.append(run)
    return run


async def test_a_run_is_shown_with_money_time_left_what_runs_and_what_failed(
    services: Services, penstock: Told
) -> None:
    items_run(services)
    summary = services.state.operated.summaries["run-1"] = s.RunSummary(failure_groups=3)
    summary.throughput.items_per_second, summary.throughput.last_hour = 12.5, 40_000
    summary.eta.reason = "fewer than 20 items completed"
    summary.running.add(seq=7, key="page-7", phase="asking", progress=0.5, worker="w-1", attempt=2, mode=s.MODE_HEAL)
    summary.failures.add(fingerprint="3f2a", kind="timeout", count=12, example_seq=4, example_key="page-4")
    shown = await penstock("runs", "show", "1")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0] == "Run 1 pages: waiting (gate ship)"
    facts = {line[2:10].strip(): line[11:] for line in lines[1 : lines.index("")]}
    assert facts["owner"] == "ada, priority 5"
    assert facts["money"] == "$1.25 spent, $0.30 reserved of $5.00 ($0.000007 over what was reserved)"
    assert facts["speed"] == "12.5 items/s, 40,000 in the last hour"
    assert facts["ends"] == "not known yet: fewer than 20 items completed"
    assert facts["next"] == "answer it: penstock gates approve 1 ship"
    at = next(i for i, line in enumerate(lines) if line.startswith("STAGE"))
    told = dict(zip(lines[at].split(), lines[at + 1].replace("summarise 1", "summarise").split(), strict=True))
    assert (told["WAITING"], told["DEFERRED"], told["HEALED"], told["CAP"]) == ("13", "4", "2", "$9.00")
    assert any(line.split()[:2] == ["0/7", "page-7"] and "heal asking 50%" in line for line in lines)
    assert "Failed attempts, equal ones together (2 more kinds):" in lines
    assert any(line.split()[:3] == ["12", "timeout", "3f2a"] for line in lines)
    view = (await penstock("runs", "show", "1", "--json")).json()
    assert (view["number"], view["money"]["left_micros"], view["eta"]["known"]) == (1, 3_450_000, False)


async def test_lists_show_money_and_gates_where_there_are_any(services: Services, penstock: Told) -> None:
    run = items_run(services)
    head, row = (await penstock("runs", "list")).out.splitlines()
    assert "WAITS FOR" in head
    assert "MONEY" in head
    assert "gate ship" in row
    run.ClearField("money")
    run.ClearField("waiting")
    head = (await penstock("runs", "list")).out.splitlines()[0]
    assert head.split() == ["RUN", "STATE", "ITEMS", "DONE", "FAILED", "NAME", "CREATED", "ID"]


async def test_an_explanation_says_what_would_change_it(services: Services, penstock: Told) -> None:
    items_run(services)
    why = s.Explanation(state="queued", ahead=12)
    reason = why.reasons.add(code="limit_closed", text="domain:example.org is closed", change="it opens at 12:00")
    reason.since_time.FromMilliseconds(1_700_000_000_000)
    services.state.operated.explanations["0/7"] = why
    told = (await penstock("items", "explain", "1", "7")).out.splitlines()
    assert told == [
        "Item 0/7 is queued.",
        "  domain:example.org is closed (since 2023-11-14T22:13:20.000Z)",
        "    → it opens at 12:00",
        "  Before it: 12 items of its stage.",
    ]
    assert (await penstock("items", "explain", "1", "7", "--json")).json()["reasons"][0]["code"] == "limit_closed"
    assert (await penstock("runs", "explain", "1")).out.splitlines() == ["Run 1 is running.", "  Nothing holds it."]


async def test_how_many_more_items_there_are_is_told_only_where_it_is_known(services: Services, penstock: Told) -> None:
    run = items_run(services)
    run.state = s.RUN_STATE_STOPPED
    run.stages[0].counts.CopyFrom(s.ItemCounts(total=40, completed=3, failed=2, stopped=35))
    ended = [s.ITEM_STATE_COMPLETED] * 3 + [s.ITEM_STATE_FAILED] * 2
    services.state.items["run-1"] = [s.RunItem(seq=seq, key=f"k{seq}", state=state) for seq, state in enumerate(ended)]

    async def last(*options: str) -> str:
        return (await penstock("items", "list", "1", *options)).out.splitlines()[-1]

    assert await last("--limit", "2") == "… and 38 more: --limit N shows more"
    run.plan_removed = True
    assert await last("--limit", "2") == "… and more: --limit N shows more", "most of them went with the plan"
    assert await last("--limit", "2", "--state", "completed") == "… and 1 more: --limit N shows more"
    assert await last() == "35 items never began, and went with the run's plan"
    run.stages[0].counts.CopyFrom(s.ItemCounts(total=5, completed=3, failed=2))
    assert "never began" not in await last()


async def test_items_are_named_by_numbers_ranges_or_a_filter(services: Services, penstock: Told) -> None:
    items_run(services)
    done = await penstock("items", "skip", "1", "4", "7-9", "--reason", "sold out")
    assert (done.code, done.out.strip()) == (0, "skip: 4 of 4 items changed")
    asked = services.state.named("ActOnItems")[-1]
    assert (list(asked.seqs), asked.reason, asked.actor) == ([4, 7, 8, 9], "sold out", "cli")
    preview = await penstock("items", "retry", "1", "--filter", "state = failed", "--preview")
    assert preview.out.strip() == "retry: 7 of 7 items would be changed; nothing was changed"
    assert services.state.named("ActOnItems")[-1].validate_only
    services.state.operated.actions["act-1"] = [
        s.ItemAction(action_id="act-1", matched=7, refused=7, example="item 3 is completed", done=True)
    ]
    refused = await penstock("items", "retry", "1", "--filter", "tries > 1")
    assert refused.code == 1
    assert "7 refused (item 3 is completed)" in refused.out
    going = await penstock("items", "rerun", "1", "--filter", "tries > 1", "--no-wait")
    assert "going on as action act-1" in going.out
    for arguments in ((), ("4", "--filter", "x = 1"), ("four",), ("0-2000000",)):
        bad = await penstock("items", "front", "1", *arguments)
        assert (bad.code, bad.out) == (2, ""), bad
    services.state.fail["ActOnItems"] = [InvalidInput("filter: at 7, a value is missing after =", code="bad_filter")]
    bad = await penstock("items", "front", "1", "--filter", "state =", "--json")
    assert json.loads(bad.err)["error"]["code"] == "bad_filter"


async def test_one_item_is_shown_whole(services: Services, penstock: Told) -> None:
    items_run(services)
    item = s.RunItem(seq=7, key="page-7", state=s.ITEM_STATE_FAILED, tries=2, attempt=3, error="no answer")
    item.error_kind, item.fingerprint, item.cost_micros, item.lane = "timeout", "3f2a", 1_500, "domain:example.org"
    services.state.items["run-1"] = [item]
    lines = (await penstock("items", "show", "1", "7")).out.splitlines()
    assert lines[0] == "Item 0/7 page-7: failed"
    facts = {line[2:13].strip(): line[14:] for line in lines[1:]}
    assert facts == {
        "limits": "domain:example.org",
        "tries": "2 of 3 attempts",
        "cost": "$0.0015",
        "error": "timeout: no answer",
        "fingerprint": "3f2a",
    }
    head, row = (await penstock("items", "list", "1", "--state", "failed", "--filter", "tries = 2")).out.splitlines()
    assert head.split()[:6] == ["ITEM", "KEY", "GROUP", "STATE", "TRIES", "COST"]
    assert "$0.0015" in row
    assert services.state.named("ListItems")[-1].filter == "tries = 2"
    assert (await penstock("items", "show", "1", "8")).code == 2


async def test_a_limit_changes_only_where_it_was_named(services: Services, penstock: Told) -> None:
    made = await penstock(
        *("limits", "set", "provider:anthropic", "--concurrency", "8", "--adaptive", "--cooldown", "1m"),
        *("--rate", "requests=50", "--rate", "tokens=40000,burst=8000,estimate=900", "--reason", "theirs"),
    )
    assert made.code == 0, made.err
    await penstock("limits", "set", "provider:anthropic", "--rate", "requests=0", "--rate", "tokens=20000")
    sent = services.state.named("SetLimit")[-1].limit
    assert (sent.concurrency, sent.adaptive, sent.cooldown_seconds) == (8, True, 60)
    assert [(rate.dimension, rate.per_minute) for rate in sent.rates] == [("tokens", 20_000)]
    await penstock("limits", "set", "provider:anthropic", "--concurrency", "none", "--no-adaptive")
    sent = services.state.named("SetLimit")[-1].limit
    assert (sent.HasField("concurrency"), sent.adaptive) == (False, False)
    closed = await penstock("limits", "close", "domain:example.org", "--for", "2h", "--reason", "they asked")
    assert "domain:example.org: closed: they asked" in closed.out
    assert services.state.named("CloseLimit")[-1].HasField("until_time")
    listed = (await penstock("limits", "list")).out.splitlines()
    assert listed[0].split()[:3] == ["KEY", "PATTERN", "STATE"]
    assert [line.split()[0] for line in listed[1:]] == ["domain:example.org", "provider:anthropic"]
    assert len((await penstock("limits", "list", "--closed", "--json")).json()) == 1
    assert "open" in (await penstock("limits", "open", "domain:example.org")).out
    assert (await penstock("limits", "delete", "domain:example.org", "--json")).json()["changed"]
    assert (await penstock("limits", "show", "domain:example.org")).code == 2
    for arguments in (("--rate", "fast"), ("--cooldown", "soon"), ("--concurrency", "lots")):
        assert (await penstock("limits", "set", "x:y", *arguments)).code == 2
    told = (await penstock("limits", "set", "x:y", "--concurrency", "-3x", "--rate", "a", "--cooldown", "5y")).err
    assert all(name in told for name in ("--concurrency", "--rate", "--cooldown")), told


async def test_budgets_are_told_and_set_in_dollars(services: Services, penstock: Told) -> None:
    items_run(services)
    head, row = (await penstock("budgets", "list")).out.splitlines()
    assert row.split()[:3] == ["1", "waiting", "(gate"]
    assert "$3.45" in row
    assert len(head) >= len("RUN  STATE")
    shown = (await penstock("budgets", "show", "1")).out.splitlines()
    assert [line.split()[0] for line in shown] == ["OF", "run", "stage"]
    assert (await penstock("budgets", "set", "1", "20", "--reason", "worth it")).out.strip() == "run 1 is updated"
    asked = services.state.named("UpdateRun")[-1]
    assert (asked.budget_micros, asked.reason, len(asked.stages)) == (20_000_000, "worth it", 0)
    await penstock("budgets", "set", "1", "none")
    assert services.state.named("UpdateRun")[-1].budget_micros == -1
    await penstock("budgets", "set", "1", "0.05", "--item")
    asked = services.state.named("UpdateRun")[-1]
    assert (asked.HasField("budget_micros"), asked.stages[0].item_budget_micros) == (False, 50_000)
    assert (await penstock("budgets", "set", "1", "much")).code == 2
    services.state.operated.ledger = [s.LedgerEntry(number=1, kind="settled", seq=3, attempt=1, micros=12_500)]
    assert "$0.0125" in (await penstock("budgets", "ledger", "1")).out
    assert (await penstock("budgets", "ledger", "1", "--json")).lines()[0]["micros"] == 12_500
    assert (await penstock("budgets", "price", "summarise", "0.012")).out.strip() == "summarise: $0.012 an item"
    assert "$0.012" in (await penstock("budgets", "prices")).out


async def test_the_only_gate_needs_no_name(services: Services, penstock: Told) -> None:
    run = items_run(services)
    gates = services.state.operated.gates
    gates += [s.Gate(run_id=run.run_id, stage=1, name=name) for name in ("ship", "bill")]
    assert [line.split()[1] for line in (await penstock("gates", "list")).out.splitlines()[1:]] == ["ship", "bill"]
    unclear = await penstock("gates", "approve", "1")
    assert (unclear.code, "ship" in unclear.err, "bill" in unclear.err) == (2, True, True)
    assert "approved: run 1 is running" in (await penstock("gates", "approve", "1", "bill")).out
    rejected = await penstock("gates", "reject", "1", "--reason", "prices are wrong", "--json")
    assert rejected.json()["run"]["state"] == "stopped"
    assert (await penstock("gates", "approve", "1", "ship")).code == 1, "a conflict is no bad input"


async def test_retries_are_stopped_and_allowed(penstock: Told) -> None:
    assert (await penstock("retries", "show")).out.strip() == "retries are allowed"
    stopped = (await penstock("retries", "stop", "--reason", "incident 7")).out.strip()
    assert stopped == "retries are stopped, by cli: incident 7"
    assert "already" in (await penstock("retries", "stop")).out
    assert (await penstock("retries", "allow", "--json")).json()["allowed"]


async def test_a_live_run_is_updated_and_an_ended_one_cloned(services: Services, penstock: Told) -> None:
    items_run(services)
    assert (await penstock("runs", "update", "1", "--concurrency", "4")).out.strip() == "run 1 is updated"
    asked = services.state.named("UpdateRun")[-1]
    assert (asked.HasField("priority"), asked.stages[0].concurrency) == (False, 4)
    assert (await penstock("runs", "update", "1")).code == 2
    cloned = await penstock("runs", "clone", "1", "--failed", "--json")
    assert (cloned.json()["cloned_from"], cloned.json()["number"]) == ("run-1", 2)
    assert services.state.named("CloneRun")[-1].failed
    services.state.fail["UpdateRun"] = [Conflict("run 1 is archived: it can be cloned", code="run_archived")]
    refused = await penstock("runs", "update", "1", "--priority", "1")
    assert (refused.code, refused.err.strip()) == (1, "penstock: run 1 is archived: it can be cloned")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("items", "show", "1", str(10**20)), "seqs"),
        (("items", "explain", "1", "1", "--stage", "900"), ""),
        (("runs", "update", "1", "--priority", str(2**40), "--max-tries", "1"), "priority"),
        (("runs", "update", "1", "--concurrency", str(2**40), "--max-run-seconds", str(-(2**40))), "max_run_seconds"),
        (("runs", "show", str(10**30)), "number"),
        (("limits", "set", "a:b", "--concurrency", str(2**40)), "concurrency"),
        (("runs", "events", "1", "--after", str(10**20)), "after_number"),
    ],
)
async def test_a_number_that_is_far_too_large_is_bad_input(
    services: Services, penstock: Told, arguments: tuple[str, ...], named: str
) -> None:
    items_run(services)
    answer = await penstock(*arguments)
    assert (answer.code, named in answer.err) == (2 if named else 0, True), answer


async def test_a_start_says_what_it_may_cost(services: Services, penstock: Told, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text('{"key": "a"}\n')
    (tmp_path / "rules.json").write_text('{"gate": {"name": "go"}}')
    start = ("runs", "start", "--items", str(tmp_path / "items.jsonl"), "--processor", "summarise")
    started = await penstock(
        *(*start, "--budget", "5", "--item-budget", "0.05", "--rules", str(tmp_path / "rules.json")),
        *("--owner", "ada", "--priority", "3", "--exclusive", "project:x"),
    )
    assert started.code == 0, started.err
    asked = services.state.named("StartRun")[-1]
    assert (asked.budget_micros, asked.owner, asked.priority) == (5_000_000, "ada", 3)
    assert list(asked.exclusive_keys) == ["project:x"]
    rules = services.state.named("CreatePlan")[-1].stages[0].rules
    assert (rules.item_budget_micros, rules.gate.name) == (50_000, "go")
    for more in (("--rules", "{no json"), ("--rules", "[]"), ("--rules", '{"gate": {}}'), ("--budget", "-5")):
        assert (await penstock(*start, *more)).code != 0
    services.state.fail["StartRun"] = [Conflict("project:x is held by run 7", code="exclusive_key_held")]
    assert "held by run 7" in (await penstock(*start, "--exclusive", "project:x")).err


async def test_events_are_followed_to_the_end(services: Services, penstock: Told) -> None:
    run = items_run(services)
    services.state.events = [
        s.Event(number=1, type="run.created", new_state="queued", actor="ada"),
        s.Event(number=2, type="item.failed", subject="item:0/7", reason="no answer"),
        s.Event(number=3, type="run.state", old_state="running", new_state="completed"),
    ]

    async def ends(request: s.WatchRunRequest) -> AsyncIterator[s.WatchRunResponse]:
        yield s.WatchRunResponse(run=run, events=services.state.events[:2])
        ended = s.Run()
        ended.CopyFrom(run)
        ended.state = s.RUN_STATE_COMPLETED
        yield s.WatchRunResponse(run=ended, events=services.state.events[2:])

    services.state.watch = ends
    lines = (await penstock("runs", "events", "1", "--follow")).out.splitlines()
    assert [line.split()[0] for line in lines] == ["NUMBER", "1", "2", "3"]
    assert lines[2].split()[2:4] == ["item.failed", "item:0/7"]
    failed = await penstock("runs", "events", "1", "-f", "--type", "item.failed", "--json")
    assert [event["number"] for event in failed.lines()] == [2]
    assert len((await penstock("runs", "events", "1", "--limit", "2")).out.splitlines()) == 3


async def test_who_watches_a_run_that_waits_hears_how_it_goes_on(services: Services, penstock: Told) -> None:
    run = items_run(services)

    async def waits(request: s.WatchRunRequest) -> AsyncIterator[s.WatchRunResponse]:
        yield s.WatchRunResponse(run=run)
        ended = s.Run()
        ended.CopyFrom(run)
        ended.state, ended.waiting = s.RUN_STATE_COMPLETED, ""
        yield s.WatchRunResponse(run=ended)

    services.state.watch = waits
    told = await penstock("runs", "watch", "1")
    assert told.code == 0
    assert "run 1 waits (gate ship); answer it: penstock gates approve 1 ship" in told.err
    assert "$1.25 spent" in told.err
