"""The page at `/` and the report, in a real browser: upload, progress, report; nothing that a document says is run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.client.resources import StageOptions
from tests.browser.chromium import Chromium
from tests.servers.stack import Stack

TEXT = (
    "The ferry leaves at nine and nobody hurries. The captain reads the paper twice, for the news and for the "
    "crossword, and the dog sleeps on the ropes. We bought oranges for the crossing and ate them before we had left. "
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    one = Chromium(tmp_path)
    yield one
    one.close()


def test_files_chosen_on_the_page_become_a_run_and_a_report(stack: Stack, browser: Chromium, tmp_path: Path) -> None:
    evil = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> " + TEXT
    for name, text in (("evil.txt", evil), ("ferry.txt", TEXT * 2), ("empty.txt", "")):
        (tmp_path / name).write_text(text)
    browser.open(f"{stack.url}/")
    browser.choose("#files", tmp_path / "evil.txt", tmp_path / "ferry.txt", tmp_path / "empty.txt")
    first = "document.querySelector('#runs .run')"
    browser.until(f"{first}?.querySelector('.name').textContent === '3 documents'")
    browser.until(f"{first}.querySelector('.state').textContent === 'completed, some failed'", seconds=30)
    assert "2 of 3 documents · 1 failed" in browser.run(f"{first}.querySelector('.counts').textContent")
    browser.run(f"{first}.querySelector('.failed').open = true")
    browser.until(f"{first}.querySelector('.failed li')?.textContent.includes('empty.txt: ')")
    report = browser.run(f"[...{first}.querySelectorAll('a')].find((a) => a.textContent === 'Open report').href")
    assert browser.console == []

    browser.open(report)
    assert browser.run("document.title") == "3 documents · Penstock"
    assert browser.run("document.querySelectorAll('details.doc').length") == 2
    assert "<script>" in browser.run("document.getElementById('doc-1').querySelector('.text').textContent")
    browser.run("const f = document.getElementById('filter'); f.value = 'ferry'; f.dispatchEvent(new Event('input'))")
    assert browser.run("document.getElementById('matches').textContent") == "1 of 3"
    browser.run("document.querySelector('#table th:nth-child(3) button').click()")
    assert browser.run("document.querySelector('#table th:nth-child(3)').ariaSort") == "ascending"
    assert browser.run("document.title") == "3 documents · Penstock"
    assert browser.console == []


def test_a_dropped_folder_is_walked(stack: Stack, browser: Chromium, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    for name in ("one.txt", "deep/two.txt", ".hidden"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(TEXT + name)
    browser.open(f"{stack.url}/")
    browser.drop(folder)
    first = "document.querySelector('#runs .run')"
    browser.until(f"{first}?.querySelector('.name').textContent === 'letters'")
    run = stack.client.runs.list(limit=1)[0]
    assert {item.key for item in stack.client.runs.items(run.run_id)} == {"letters/one.txt", "letters/deep/two.txt"}


def test_a_refused_upload_is_told_on_the_page(stack: Stack, browser: Chromium, tmp_path: Path) -> None:
    (tmp_path / "broken.zip").write_bytes(b"this is no archive")
    browser.open(f"{stack.url}/")
    browser.choose("#zip", tmp_path / "broken.zip")
    browser.until("!document.querySelector('#message').hidden")
    assert browser.run("document.querySelector('#message span').textContent").startswith("Upload refused: ")


def test_a_run_that_failed_offers_its_report_and_another_try(stack: Stack, browser: Chromium, tmp_path: Path) -> None:
    (tmp_path / "nothing.txt").write_text("")
    browser.open(f"{stack.url}/")
    browser.choose("#files", tmp_path / "nothing.txt")
    first = "document.querySelector('#runs .run')"
    browser.until(f"{first}?.querySelector('.name').textContent === 'nothing.txt'")
    browser.until(f"{first}.querySelector('.state').textContent === 'failed'", seconds=30)
    buttons = f"[...{first}.querySelectorAll('.actions > *')].map((one) => one.textContent)"
    assert browser.run(buttons) == ["Retry failed", "CSV", "JSON", "Open report"]
    assert "0 of 1 document ·" in browser.run(f"{first}.querySelector('.counts').textContent")


def test_buttons_pause_and_stop_a_run(stack: Stack, browser: Chromium, tmp_path: Path) -> None:
    client = stack.client
    source = client.sources.items([{"key": f"page-{number}"} for number in range(3000)])
    stage = StageOptions(processor="noop", parameters={"sleep_seconds": 0.05}, concurrency=1)
    plan = client.plans.create(source.source_id, stages=[stage])
    browser.open(f"{stack.url}/")
    run = client.runs.start(plan.plan_id, name="slow one")
    first = "document.querySelector('#runs .run')"
    browser.until(f"{first}?.querySelector('.name').textContent === 'slow one'")
    press = f"[...{first}.querySelectorAll('button')].find((b) => b.textContent === '%s').click()"
    browser.run(press % "Pause")
    browser.until(f"{first}.querySelector('.state').textContent === 'paused'")
    browser.run(press % "Stop")
    browser.until(f"{first}.querySelector('.state').textContent === 'stopped'")
    buttons = f"[...{first}.querySelectorAll('.actions > *')].map((one) => one.textContent)"
    assert browser.run(buttons) == ["Resume"]
    assert client.runs.get(run.run_id).number == run.number
