"""The page rounds times and tells money as the command line does: both are asked for the same amounts."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from collections.abc import Sequence

import pytest
from starlette.routing import Route

from gateway.pages import router, text
from penstock.amounts import time_range, time_text
from penstock.words import dollars

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs node on PATH")
ASK = "process.stdout.write(JSON.stringify(JSON.parse(require('fs').readFileSync(0, 'utf8')).map((one) => %s)));"
ODD = (0, 0.004, 0.0099, 0.01, 0.05, 0.125, 0.347, 0.35, 0.996, 1.0, 1.15, 1.25, 9.95, 9.96, 12.5, 14.5, 80, 89.9, 90)
LONG = (99.6 * 60, 125 * 60, 5_400, 90_000, 129_600, 86_400 * 9.95, 86_400 * 123, 86_400 * 125, 86_400 * 1_234)


def on_the_page(call: str, amounts: Sequence[object]) -> list[str]:
    """What a call of a function of the page gives for each of the amounts, which it has as `one`."""
    assert NODE is not None
    script = text("amounts.js") + ASK % call
    done = subprocess.run([NODE, "-e", script], input=json.dumps(amounts), capture_output=True, text=True, check=True)
    told: list[str] = json.loads(done.stdout)
    return told


def seconds() -> list[float]:
    chance = random.Random(5)
    measured = [chance.randrange(100_000) / 1_000 for _ in range(2_000)]
    return [*ODD, *LONG, *measured, *(10 ** chance.uniform(-3, 9) for _ in range(2_000))]


@needs_node
def test_times_read_alike_on_the_page_and_on_a_terminal() -> None:
    asked = seconds()
    assert dict(zip(asked, on_the_page("timeText(one)", asked), strict=True)) == {one: time_text(one) for one in asked}


@needs_node
def test_ranges_of_times_read_alike_on_the_page_and_on_a_terminal() -> None:
    asked = seconds()
    pairs = [(low, low + more) for low, more in zip(asked, reversed(asked), strict=True)]
    pairs += [(low, low * 1.01) for low in asked] + [(0, high) for high in asked]
    told = on_the_page("timeRange(one[0], one[1])", pairs)
    assert dict(zip(pairs, told, strict=True)) == {pair: time_range(*pair) for pair in pairs}
    assert any(words.startswith("about ") for words in told)


@needs_node
def test_money_that_was_spent_reads_alike_on_the_page_and_on_a_terminal() -> None:
    chance = random.Random(5)
    asked = [0, 1, -1, 50, 5_250_000, 1_234_567, 1_234_567_890, *(chance.randrange(10**12) for _ in range(1_000))]
    assert dict(zip(asked, on_the_page("dollars(one)", asked), strict=True)) == {one: dollars(one) for one in asked}


def test_every_script_that_the_page_names_is_served() -> None:
    named = re.findall(r'<script src="([^"]+)"', text("index.html"))
    served = {route.path for route in router.routes if isinstance(route, Route)}
    assert "/amounts.js" in named
    assert set(named) <= served
