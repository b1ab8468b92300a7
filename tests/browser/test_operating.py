"""What holds runs back, on the page at `/`: told where it matters, with the button that changes it. In a real browser,
over services whose answers the test chooses."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvicorn

from gateway.__main__ import Server, listening
from gateway.app import create_app
from penstock.client import AsyncClient
from penstock.runtime.settings import Settings
from penstock.v1 import planner_pb2
from penstock.v1 import scheduler_pb2 as s
from tests.browser.chromium import Chromium
from tests.integration.client.services import Services, serving
from tests.servers.stack import until

Looks = Callable[[Chromium, str], None]


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with serving(tmp_path) as one:

        async def quiet(request: s.WatchRunRequest) -> AsyncIterator[s.WatchRunResponse]:
            while True:
                run = next(run for run in one.state.runs if run.run_id == request.run_id)
                yield s.WatchRunResponse(run=run)
                await asyncio.sleep(0.1)

        one.state.watch = quiet
        yield one


@pytest.fixture
async def url(services: Services) -> AsyncIterator[str]:
    stopping = asyncio.Event()
    sock = listening("127.0.0.1", 0)
    async with AsyncClient(endpoints=services.endpoints, retry_seconds=1.0, actor="http") as client:
        app = create_app(Settings(), client, stopping)
        server = Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1))
        serve = asyncio.create_task(server.serve(sockets=[sock]))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        stopping.set()
        server.should_exit = True
        await serve


def run(number: int, state: s.RunState.ValueType, name: str, *, waiting: str = "", **counts: int) -> s.Run:
    made = s.Run(
        run_id=f"run-{number}",
        number=number,
        kind=planner_pb2.SOURCE_KIND_ITEMS,
        name=name,
        state=state,
        waiting=waiting,
        stages=[s.Stage(processor="summarise", state=s.STAGE_STATE_RUNNING, counts=s.ItemCounts(**counts))],
        counts=s.ItemCounts(**counts),
    )
    made.create_time.GetCurrentTime()
    made.start_time.GetCurrentTime()
    return made


async def at_the_page(url: str, tmp_path: Path, work: Callable[[Chromium], None]) -> None:
    def look() -> None:
        browser = Chromium(tmp_path, height=1500)
        try:
            browser.open(f"{url}/")
            work(browser)
            assert browser.console == []
            if folder := os.environ.get("PENSTOCK_TEST_PICTURES"):
                browser.picture(Path(folder) / f"{tmp_path.name}.png")
        finally:
            browser.close()

    await asyncio.to_thread(look)


def card(name: str) -> str:
    return f"[...document.querySelectorAll('.run')].find((one) => one.querySelector('.name').textContent === '{name}')"


def press(name: str, button: str) -> str:
    return f"[...{card(name)}.querySelectorAll('button')].find((b) => b.textContent === '{button}').click()"


async def test_gates_and_caps_are_answered_where_they_are_told(services: Services, url: str, tmp_path: Path) -> None:
    gate = run(1, s.RUN_STATE_WAITING, "catalog", waiting="gate ship it", total=40, completed=40)
    capped = run(2, s.RUN_STATE_WAITING, "pages", waiting="budget: the run's cap of $5.00", total=90, completed=20)
    capped.money.budget_micros, capped.money.spent_micros = 5_000_000, 4_995_000
    services.state.runs += [gate, capped]
    services.state.operated.gates.append(s.Gate(run_id="run-1", stage=1, name="ship it"))
    why = services.state.operated.explanations["run"] = s.Explanation(state="waiting")
    why.reasons.add(code="budget", text="The next item needs $0.01, $0.005 is left.", change="Raise the cap.")

    def work(browser: Chromium) -> None:
        browser.until(f"{card('pages')}?.querySelector('.counts').textContent.includes('$4.995 spent of $5.00')")
        assert "“ship it”" in browser.run(f"{card('catalog')}.querySelector('.holds').textContent")
        browser.run(f"{card('pages')}.querySelector('.why').open = true")
        browser.until(f"{card('pages')}.querySelector('.why li')?.textContent.includes('Raise the cap.')")
        if folder := os.environ.get("PENSTOCK_TEST_PICTURES"):
            browser.picture(Path(folder) / "waiting.png")
        assert browser.run(f"{card('pages')}.querySelector('.cap input').value") == "10"
        browser.run(press("pages", "Raise the cap to $"))
        browser.until(f"{card('pages')}.querySelector('.counts').textContent.includes('of $10.00')")
        browser.run(press("catalog", "Approve"))
        browser.until(f"{card('catalog')}.querySelector('.state').textContent === 'running'")
        browser.until(f"{card('catalog')}.querySelector('.holds').hidden")

    await at_the_page(url, tmp_path, work)
    assert services.state.named("UpdateRun")[-1].budget_micros == 10_000_000
    assert services.state.named("AnswerGate")[-1].gate == "ship it"


async def test_the_cap_that_holds_is_the_one_that_is_raised(services: Services, url: str, tmp_path: Path) -> None:
    staged = run(1, s.RUN_STATE_WAITING, "staged", waiting="budget: 5 are left of the cap of stage 0", total=9)
    staged.stages[0].money.budget_micros = 3_000_000
    unpriced = run(2, s.RUN_STATE_WAITING, "unpriced", waiting="budget: nobody knows what an item costs", total=9)
    services.state.runs += [staged, unpriced]

    def work(browser: Chromium) -> None:
        browser.until(f"{card('unpriced')}?.querySelector('.holds').textContent.includes('nobody knows')")
        assert browser.run(f"{card('unpriced')}.querySelector('.cap')") is None
        assert browser.run(f"{card('staged')}.querySelector('.cap input').value") == "6"
        browser.run(press("staged", "Raise the cap of stage 0 to $"))
        until("the page has asked", lambda: services.state.named("UpdateRun"))

    await at_the_page(url, tmp_path, work)
    asked = services.state.named("UpdateRun")[-1]
    assert (asked.HasField("budget_micros"), asked.stages[0].budget_micros) == (False, 6_000_000)


async def test_closed_limits_and_stopped_retries_are_told_and_ended(
    services: Services, url: str, tmp_path: Path
) -> None:
    busy = run(
        1, s.RUN_STATE_RUNNING, "shops", total=5000, completed=1200, running=8, queued=3700, retry=60, deferred=32
    )
    services.state.runs.append(busy)
    summary = services.state.operated.summaries["run-1"] = s.RunSummary()
    summary.throughput.items_per_second = 12.4
    summary.eta.known = True
    summary.eta.early_time.GetCurrentTime()
    summary.eta.late_time.GetCurrentTime()
    summary.eta.early_time.seconds += 310
    summary.eta.late_time.seconds += 490
    operated = services.state.operated
    operated.limits["domain:example.org"] = s.Limit(
        key="domain:example.org", state="closed", reason="429 Too Many Requests"
    )
    operated.limits["provider:anthropic"] = s.Limit(key="provider:anthropic", state="ramping", cap=4)
    operated.limits["domain:*"] = s.Limit(key="domain:*", state="open", concurrency=2)
    operated.retries.allowed, operated.retries.actor, operated.retries.reason = False, "ada", "incident <b>7</b>"

    def work(browser: Chromium) -> None:
        browser.until("document.querySelectorAll('#limits li').length === 2")
        browser.until(f"!!{card('shops')}")
        told = browser.run("document.querySelector('#limits').textContent")
        assert "429 Too Many Requests" in told
        assert "4 at once" in told
        assert browser.run("document.querySelector('#retries span').textContent").endswith(
            "incident <b>7</b>. What failed waits."
        )
        counts = f"{card('shops')}.querySelector('.counts').textContent"
        browser.until(rf"/12\.4 a second · [345](\.\d)? to [678](\.\d)? min left/.test({counts})")
        assert "60 to be tried again · 32 deferred" in browser.run(counts)
        if folder := os.environ.get("PENSTOCK_TEST_PICTURES"):
            browser.picture(Path(folder) / "limits.png")
        browser.run("document.querySelector('#limits button').click()")
        browser.until("document.querySelectorAll('#limits li').length === 1")
        browser.run("document.querySelector('#retries button').click()")
        browser.until("document.querySelector('#retries').hidden")

    await at_the_page(url, tmp_path, work)
    assert services.state.named("OpenLimit")[-1].key == "domain:example.org"
    assert services.state.operated.retries.allowed


async def test_a_failed_run_says_why_at_its_place(services: Services, url: str, tmp_path: Path) -> None:
    failed = run(1, s.RUN_STATE_FAILED, "broken", total=4, completed=1, failed=3)
    failed.stages[0].state = s.STAGE_STATE_FAILED
    failed.stages[0].error = "3 of 4 items failed"
    services.state.runs.append(failed)

    def work(browser: Chromium) -> None:
        browser.until(f"{card('broken')}?.querySelector('details.failed summary').textContent === 'Why 3 failed'")
        assert browser.run(f"{card('broken')}.querySelector('.error').textContent") == "3 of 4 items failed"
        assert browser.run(f"{card('broken')}.querySelector('.why').hidden")

    await at_the_page(url, tmp_path, work)


async def test_what_failed_is_tried_again_after_a_question(services: Services, url: str, tmp_path: Path) -> None:
    services.state.runs.append(run(1, s.RUN_STATE_COMPLETED_WITH_FAILURES, "done", total=90, completed=33, failed=57))
    failures = services.state.operated.summaries["run-1"] = s.RunSummary(failure_groups=2)
    failures.failures.add(count=50, kind="provider", example_error="no <answer>", example_key="page-4")

    def work(browser: Chromium) -> None:
        browser.until(f"!!{card('done')}?.querySelector('.actions button')")
        browser.run(f"{card('done')}.querySelector('.failed').open = true")
        browser.until(f"{card('done')}.querySelectorAll('.failed li').length === 2")
        first = browser.run(f"{card('done')}.querySelector('.failed li').textContent")
        assert first == "50 × provider: no <answer> (as page-4)"
        browser.run("window.asked = []; window.confirm = (text) => { asked.push(text); return asked.length > 1; }")
        browser.run(press("done", "Retry failed"))
        browser.until("asked.length === 1")
        browser.run(press("done", "Retry failed"))
        browser.until("asked.length === 2")
        assert browser.run("asked[0]") == "Try 7 items of run 1 again?"
        until("it is asked for", lambda: len(services.state.named("ActOnItems")) > 2, seconds=10)

    await at_the_page(url, tmp_path, work)
    asked = services.state.named("ActOnItems")
    assert [one.validate_only for one in asked[:2]] == [True, True]
    assert (asked[-1].validate_only, asked[-1].filter) == (False, "state = failed")
