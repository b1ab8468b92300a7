"""Whoever dies, and however: nothing of a program is left behind, and the next item runs."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.processor import Result
from tests.integration.declared.trial import Trial, alive, folders
from tests.servers.stack import until

WORKER = """
import asyncio, sys
from pathlib import Path
from penstock.declared.programs import Programs
from penstock.runtime.blobs import BlobStore
from tests.integration.declared.trial import Trial

async def main(folder, mark):
    trial = Trial(folder, Programs(), BlobStore(folder / "blobs"), mark=mark)
    await asyncio.gather(*(trial.outcome(trial.sh((folder / "work.sh").read_text())) for _ in range(2)))

asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.parametrize("whom", ["worker", "group", "ended"])
def test_a_worker_that_dies_takes_its_programs_with_it(tmp_path: Path, whom: str) -> None:
    mark = f"trial-{os.urandom(8).hex()}"
    folder, temporary = tmp_path / "declared", tmp_path / "temporary"
    for one in (folder, temporary):
        one.mkdir()
    sleep = folder / f"{mark}-sleep"
    sleep.symlink_to("/bin/sleep")
    # Beside itself a child that ignores SIGTERM, and a daemon in a session of its own.
    (folder / "work.sh").write_text(
        f"trap '' TERM HUP; {sleep} 1000 & (setsid sh -c '{sleep} 1001 & exec {sleep} 1002' >/dev/null 2>&1 &)\n"
        f"touch {folder}/begun-$$; {sleep} 1003; {sleep} 1004"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(folder), "no-mark"],
        env={**os.environ, "TMPDIR": str(temporary)},
        process_group=0,
    )
    try:
        until("both programs run", lambda: len(list(folder.glob("begun-*"))) == 2 and len(alive(mark)) >= 8)
        assert len(list(temporary.glob("penstock-item-*"))) == 2
        if whom == "group":
            os.killpg(worker.pid, signal.SIGKILL)
        else:
            worker.send_signal(signal.SIGKILL if whom == "worker" else signal.SIGTERM)
        worker.wait(20)
        until("all that they started is gone", lambda: not alive(mark), seconds=20)
        until("their folders are gone", lambda: not list(temporary.glob("penstock-item-*")), seconds=20)
        until("the keeper is gone", lambda: all(of(pid) != worker.pid for pid in alive("keeper.py")), seconds=20)
    finally:
        worker.kill()
        worker.wait()


def of(pid: int) -> int:
    """The process group of a process; 0 when it is gone."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def keeper_of(trial: Trial) -> int:
    assert trial.programs._keeper is not None
    return trial.programs._keeper.pid


def children(pid: int) -> list[int]:
    return [int(name) for name in filter(str.isdigit, os.listdir("/proc")) if parent(name) == pid]


def parent(name: str) -> int:
    try:
        return int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


async def test_when_the_keeper_dies_what_runs_goes_on_and_what_comes_runs(trial: Trial) -> None:
    program = trial.sh(f"echo '::progress 1/2 on' >&2; while [ ! -e {trial.folder}/go ]; do sleep 0.02; done; echo 1")
    running = await trial.running(program)
    first = keeper_of(trial)
    os.kill(first, signal.SIGKILL)
    assert trial.programs._keeper is not None
    trial.programs._keeper.wait()
    (trial.folder / "go").touch()
    assert await running == Result(1)
    assert await trial.outcome(program) == Result(1)
    assert keeper_of(trial) != first


async def test_when_a_watcher_dies_its_item_fails_and_nothing_is_left(trial: Trial) -> None:
    sleep = trial.folder / trial.mark
    sleep.symlink_to("/bin/sleep")
    program = trial.sh(f"(setsid {sleep} 1000 >/dev/null 2>&1 &); echo '::progress 1/2 on' >&2; {sleep} 1001; echo 1")
    running = await trial.running(program)
    (watcher,) = children(keeper_of(trial))
    os.kill(watcher, signal.SIGKILL)
    told: Any = await running
    assert (told.kind, told.message.partition(",")[0]) == ("item", "its watcher died")
    await asyncio.to_thread(until, "all that it started is gone", lambda: not trial.alive(), seconds=20)
    assert not folders()


async def test_a_program_does_not_outlive_its_watcher_and_hears_of_no_ctrl_c(trial: Trial) -> None:
    program = trial.sh("echo '::progress 1/2 on' >&2; sleep 0.3; echo 1")
    running = await trial.running(program)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(keeper_of(trial), number)
    assert await running == Result(1)
