"""Of a run of several tiers nothing goes on when the run itself is ended, however."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.__main__ import CALLER, CAME_TO

ROOT = Path(__file__).resolve().parents[3]
TIER = """
import time
from tests.cluster.__main__ import _end_with_caller
_end_with_caller()
print("up", flush=True)
time.sleep(60)
"""
RUN = f"""
import os, subprocess, sys
environment = {{**os.environ, {CAME_TO!r}: "/dev/null", {CALLER!r}: str(os.getpid())}}
subprocess.run([sys.executable, "-c", {TIER!r}], env=environment, check=False)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_tier_ends_with_the_run_that_began_it(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == b"up\n"
        run.send_signal(number)
        run.wait(30)
        # The tier has the same pipe: its end is the pipe's.
        assert select.select([run.stdout], [], [], 30)[0], "the tier goes on"
        assert run.stdout.read() == b""


def test_a_tier_whose_run_is_gone_already_does_not_begin() -> None:
    environment = {**os.environ, CAME_TO: "/dev/null", CALLER: "1"}
    done = subprocess.run([sys.executable, "-c", TIER], cwd=ROOT, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (128 + signal.SIGTERM, b"")
