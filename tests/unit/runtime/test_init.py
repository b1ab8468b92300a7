"""PID 1: what is told to it reaches the program, how the program ends is how it ends, and nobody stays a zombie."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

INIT = (sys.executable, "-P", "-c", "from penstock.runtime.init import main; main()")
PATIENCE_SECONDS = 30

LISTENER = """
import signal, sys
told = [int(number) for number in sys.argv[1:]]
signal.pthread_sigmask(signal.SIG_BLOCK, told)
print("ready", flush=True)
while True:
    print(signal.sigwait(told), flush=True)
"""
"""Prints the number of each signal that it gets, of those that it was told to wait for."""

DRAINING = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
print("draining", flush=True)
raise SystemExit(42)
"""

ORPHANS = """
import os, sys
read, write = os.pipe()
for _ in range(3):
    if os.fork() == 0:
        orphan = os.fork()
        if orphan == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        print(orphan, flush=True)
        os._exit(0)
    os.wait()
os.close(read)
sys.stdin.readline()
os.close(write)
sys.stdin.readline()
"""
"""Three processes whose parents are gone; they end at the first line of input, this one at the second."""


def init(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*INIT, *command], capture_output=True, text=True, timeout=PATIENCE_SECONDS, stdin=subprocess.DEVNULL
    )


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*INIT, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            # Its program, too: where init is not PID 1, nobody else would.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def listener(numbers: Sequence[int]) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", LISTENER, *(str(int(number)) for number in numbers))


@pytest.mark.parametrize("code", [0, 1, 2, 70, 255])
def test_it_ends_with_the_programs_code(code: int) -> None:
    assert init("/bin/sh", "-c", f"exit {code}").returncode == code


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_program_that_a_signal_ended_is_told_as_128_and_its_number(number: signal.Signals) -> None:
    assert init("/bin/sh", "-c", f"kill -{int(number)} $$").returncode == 128 + number


def test_arguments_and_environment_reach_the_program_as_they_are() -> None:
    assert init("/bin/echo", "two words", "", "--help").stdout == "two words  --help\n"


def test_a_program_that_is_not_there_is_named_and_so_are_those_that_are() -> None:
    ended = init("penstock-planer")
    assert ended.returncode == 127
    assert ended.stderr.count("\n") == 1
    assert "'penstock-planer'" in ended.stderr
    assert "penstock-planner" in ended.stderr


def test_what_cannot_be_executed_is_told_apart_from_what_is_not_there(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("no program\n")
    ended = init(str(plain))
    assert (ended.returncode, ended.stderr.count("\n")) == (126, 1)
    assert "plain" in ended.stderr


def test_without_a_program_it_says_how_it_is_used() -> None:
    ended = init()
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: penstock-init PROGRAM")


def test_every_signal_is_handed_on() -> None:
    real_time = [signal.SIGRTMIN, signal.SIGRTMAX]
    numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM]
    numbers += [signal.SIGALRM, signal.SIGWINCH, signal.SIGPIPE, signal.SIGTSTP, signal.SIGCONT, *real_time]
    with started(*listener(numbers)) as process:
        assert line(process) == "ready"
        for number in numbers:
            process.send_signal(number)
            assert line(process) == str(int(number))


def test_a_program_that_answers_sigterm_ends_in_its_own_way() -> None:
    with started(sys.executable, "-I", "-c", DRAINING) as process:
        assert line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert line(process) == "draining"
        assert process.wait(PATIENCE_SECONDS) == 42


def test_orphans_are_reaped_while_the_program_runs() -> None:
    with started(sys.executable, "-I", "-c", ORPHANS) as process:
        orphans = [int(line(process)) for _ in range(3)]
        for orphan in orphans:
            wait_until_parent(orphan, process.pid)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        for orphan in orphans:
            wait_until_parent(orphan, None)
        assert process.poll() is None
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait(PATIENCE_SECONDS) == 0


def wait_until_parent(pid: int, parent: int | None) -> None:
    """Until the process has this parent, zombie or not; None: until nothing of it is left."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (found := parent_of(pid)) != parent:
        assert time.monotonic() < until, f"the parent of {pid} is {found}, not {parent}"
        time.sleep(0.005)


def parent_of(pid: int) -> int | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])


def test_the_program_starts_with_the_signals_of_who_started_init() -> None:
    """Python ignores SIGPIPE and init blocks nearly all: a program that inherited either would not end as it should."""

    def signals(*command: str) -> list[set[int]]:
        told = subprocess.run(
            [*command, "/bin/grep", "^Sig\\(Blk\\|Ign\\)", "/proc/self/status"],
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        masks = [int(line.split()[1], 16) for line in told.stdout.splitlines()]
        # Those that no program may use (32 and 33) the C library leaves ignored in what it spawns.
        return [{one for one in signal.valid_signals() if mask >> (one - 1) & 1} for mask in masks]

    assert signals(*INIT) == signals() == [set(), set()]


def test_a_ctrl_c_of_the_terminal_reaches_the_program_once() -> None:
    ours, theirs = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    command = [*INIT, *listener([signal.SIGINT, signal.SIGUSR1])]
    with (
        os.fdopen(ours, "rb", buffering=0) as terminal,
        subprocess.Popen(
            command,
            stdin=theirs,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=take_terminal,
        ) as process,
    ):
        os.close(theirs)
        try:
            assert line(process) == "ready"
            # Held still, so that the program has taken what the terminal sent before init could send it again.
            process.send_signal(signal.SIGSTOP)
            os.write(terminal.fileno(), b"\x03")
            assert line(process) == str(int(signal.SIGINT))
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGUSR1)
            assert line(process) == str(int(signal.SIGUSR1))
        finally:
            process.kill()


def test_it_loads_nothing_of_ours_but_itself() -> None:
    program = (
        "import sys; import penstock.runtime.init; print(*sorted(n for n in sys.modules if n.startswith('penstock')))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert told == ["penstock", "penstock.runtime", "penstock.runtime.init"]
