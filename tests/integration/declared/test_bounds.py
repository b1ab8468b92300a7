"""No program passes its bounds, and it is told which one it met."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

import pytest

from penstock.processor import Failure, Result
from tests.integration.declared.trial import Trial

OTHERS = "SLEEP 1003 & (setsid sh -c 'SLEEP 1000 & exec SLEEP 1001' >/dev/null 2>&1 &); sleep 0.1"
"""One that stays in the program's group and holds its output, and two that have left it, its session and its parent."""

WALLS = (0.4, 4.0, 15.0)
"""The first is long enough for a shell to be on its feet, where the machine does not stand still just then."""


async def test_past_its_wall_time_it_is_asked_to_end_and_then_killed(trial: Trial) -> None:
    told: Any = None
    for wall in WALLS:
        begins = "trap 'echo saved >&2; exit 0' TERM; echo begun >&2"
        told = await trial.outcome(trial.sh(f"{begins}; sleep 100 & wait", f"wall_seconds = {wall}\n"))
        assert (told.kind, told.permanent) == ("timeout", False)
        if "begun" in told.message:
            break
    assert told.message.startswith(f"it was not done within {wall:g} s (wall_seconds) and was ended: saved\n")
    took = 0.0
    for wall in WALLS:
        bounds = f"wall_seconds = {wall}\nstop_seconds = 0.3\n"
        stubborn = trial.sh("trap '' TERM; echo x >&2; while :; do sleep 0.05; done", bounds)
        began = time.monotonic()
        told = await trial.outcome(stubborn)
        took = time.monotonic() - began
        assert told.kind == "timeout"
        if took >= wall + 0.3:
            break
    assert wall + 0.3 <= took < wall + 10


async def test_a_stage_that_gives_less_time_still_hears_why(trial: Trial) -> None:
    told: Any = None
    for seconds in WALLS:
        told = await trial.outcome(trial.sh("echo here >&2; sleep 100"), seconds=seconds)
        assert told.kind == "timeout"
        if "here" in told.message:
            break
    assert "here" in told.message


async def test_processor_time_is_bounded(trial: Trial) -> None:
    told: Any = await trial.outcome(trial.python("while True: pass", "cpu_seconds = 1\n"))
    assert told.kind == "timeout"
    assert "1 s of processor time" in told.message
    ignoring = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    told = await trial.outcome(trial.python(ignoring, "cpu_seconds = 1\n"))
    assert told.kind == "timeout"


async def test_the_memory_of_one_process_is_bounded(trial: Trial) -> None:
    told: Any = await trial.outcome(trial.python("x = bytearray(1 << 30)", f"memory_bytes = {256 << 20}\n"))
    assert told.kind == "item"
    assert "it had no more memory: 256 MiB are its bound (memory_bytes): MemoryError" in told.message


async def test_the_memory_of_all_its_processes_is_bounded(trial: Trial) -> None:
    script = """import os, time
for _ in range(4):
    if os.fork() == 0:
        x = b"x" * (90 << 20)
        time.sleep(100)
time.sleep(100)
"""
    told: Any = await trial.outcome(trial.python(script, f"memory_bytes = {200 << 20}\n"))
    assert "it and what it started took more than 200 MiB of memory" in told.message


async def test_files_and_output_are_bounded(trial: Trial) -> None:
    told: Any = await trial.outcome(trial.sh("exec head -c 2000000 /dev/zero > big", "file_bytes = 1000000\n"))
    assert told.message == "it wrote a file larger than 1,000,000 bytes (file_bytes) and was ended"
    told = await trial.outcome(trial.sh("yes", "output_bytes = 100000\n"))
    assert told.kind == "invalid_result"
    assert told.message.startswith("it printed more than 100,000 bytes (output_bytes)")
    whole = trial.sh("printf '\"'; head -c 99998 /dev/zero | tr '\\0' x; printf '\"'", "output_bytes = 100000\n")
    told = await trial.outcome(whole)
    assert isinstance(told, Result)
    assert len(told.value) == 99_998


async def test_a_program_that_was_killed_says_so(trial: Trial) -> None:
    told: Any = await trial.outcome(trial.sh("kill -9 $$"))
    assert told.message == "it was killed (SIGKILL), as a system does that has no more memory"
    told = await trial.outcome(trial.sh("kill -ABRT $$"))
    assert told.message == "it was ended by SIGABRT"


@pytest.mark.parametrize("script", ["kill -9 $$", "sleep 100"])
async def test_where_work_must_not_be_repeated_an_unknown_end_is_unknown(trial: Trial, script: str) -> None:
    told: Any = await trial.outcome(trial.sh(script, "repeatable = false\nwall_seconds = 0.2\nstop_seconds = 0\n"))
    assert (told.kind, told.permanent) == ("unknown", True)
    told = await trial.outcome(trial.sh("exit 4", "repeatable = false\n"))
    assert (told.kind, told.permanent) == ("item", False), "it said itself that it failed"


@pytest.mark.parametrize(
    ("end", "more"),
    [("echo 1", ""), ("exit 3", ""), ("SLEEP 1002", "wall_seconds = 0.4\n"), ("kill -9 $$", ""), ("yes", "")],
)
async def test_all_that_it_started_ends_with_it(trial: Trial, end: str, more: str) -> None:
    sleep = trial.folder / trial.mark
    sleep.symlink_to("/bin/sleep")
    began = time.monotonic()
    told = await trial.outcome(trial.sh(f"{OTHERS}; {end}".replace("SLEEP", str(sleep)), more))
    assert time.monotonic() - began < 25, "it waited for what was left, until its stage's time was over"
    assert isinstance(told, Result) is (end == "echo 1")
    assert not trial.alive()


async def test_a_revoked_item_is_asked_to_end(trial: Trial) -> None:
    program = trial.sh("trap 'echo bye >&2; exit 0' TERM; echo '::progress 1/2 on' >&2; sleep 100 & wait")
    running = await trial.running(program)
    trial.cancelled.set()
    told: Any = await running
    assert told.kind == "cancelled"
    assert "bye" in told.message


async def test_when_a_cancelled_call_returns_nothing_of_it_lives(trial: Trial) -> None:
    program = trial.sh("trap '' TERM; echo '::progress 1/2 on' >&2; while :; do sleep 0.05; done")
    running = await trial.running(program)
    assert trial.alive()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not trial.alive()


async def test_many_at_once_do_not_disturb_each_other_and_leave_no_descriptor(trial: Trial) -> None:
    program = trial.processor('["sh", "-c", "echo $0", "{payload.n}"]')
    assert isinstance(await trial.outcome(program, {"n": 0}), Result)
    before = len(os.listdir("/proc/self/fd"))
    told = await asyncio.gather(*(trial.outcome(program, {"n": n}) for n in range(60)))
    assert [one.value for one in told if isinstance(one, Result)] == list(range(60))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_failures_tell_nothing_that_is_not_so(trial: Trial) -> None:
    told = await trial.outcome(trial.sh("exit 1"))
    assert told == Failure("it exited with 1", fingerprint="it exited with _")
