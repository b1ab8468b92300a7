"""Checks of what a program needs: each is told apart, with its cause where that is known, and no secret in it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from penstock.runtime import program
from penstock.runtime.disk import disk_full
from penstock.runtime.errors import Unavailable
from penstock.runtime.program import watch_checks
from penstock.runtime.sql import Database


async def test_each_check_tells_for_itself_and_its_cause_goes_when_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "CHECK_TIMEOUT_SECONDS", 0.05)
    trouble = True

    async def full() -> None:
        if trouble:
            raise disk_full("the scheduler's database")

    async def away() -> None:
        raise Unavailable("connection to 10.0.0.7 as ann failed")

    async def silent() -> None:
        await asyncio.sleep(10)

    async def well() -> None:
        pass

    checks = {"full": full, "away": away, "silent": silent, "well": well}
    causes: dict[str, str] = {}
    told = await watch_checks(checks, causes)
    assert [name for name, problem in told.items() if problem] == ["full", "away", "silent"]
    assert causes == {"full": "its disk is full", "silent": "no answer in 0.05 s"}
    trouble = False
    await watch_checks(checks, causes)
    assert causes == {"silent": "no answer in 0.05 s"}


def test_a_postgresql_that_is_away_is_told_without_its_address(tmp_path: Path) -> None:
    database = Database(f"postgresql://ann:secret@/penstock?host={tmp_path}", "scheduler")
    with pytest.raises(Unavailable) as told:
        database.ping()
    assert told.value.cause == "PostgreSQL does not answer"
