"""A few pairs in the test run, and the proof that the gates part them at every statement.

`make interleave` plays all of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.interleaved.gate import COMMIT, REDIS
from tests.interleaved.pair import MOST_STATEMENTS, Pair, opened

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[Pair]:
    async with opened() as one:
        yield one


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    "names", [("report", "sweep"), ("lower_budget", "grant"), ("force_stop", "report")], ids="-".join
)
async def test_what_is_interleaved_looks_like_one_after_the_other(pair: Pair, names: tuple[str, str]) -> None:
    count = 0
    async for k, j, played in pair.every(names):
        count += 1
        assert not played.wrong, f"{names[0]} after {k} statements, {names[1]} after {j}: {played.wrong}"
    assert count > 10


@pytest.mark.asyncio(loop_scope="module")
async def test_the_second_goes_on_until_it_waits_for_the_first(pair: Pair) -> None:
    """Before the first has locked the run the second comes to its end, after that it does not."""
    free = []
    for k in range(8):
        played = await pair.interleaved(("pause", "pause"), k, MOST_STATEMENTS)
        assert not played.wrong
        free.append(played.free)
        assert (COMMIT in played.second) == (REDIS in played.second) == played.free, played.second
    assert free == sorted(free, reverse=True)
    assert {True, False} == set(free)
