"""Penstock as the demos run it: in a data folder of their own, by the commands that users have.

Each command is printed before it runs, so that a demo can be repeated by hand. Whatever ends the demo, Ctrl-C and
SIGTERM too, stops what it has started. What goes wrong ends it with one line that says where to look.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-out"
READY_SECONDS = 60.0
STOP_SECONDS = 25.0
ROWS_OF_A_PAGE = 1000
PENSTOCK = [sys.executable, "-P", "-m", "penstock"]
COMPLETED, COMPLETED_WITH_FAILURES = 0, 3


def say(text: str = "") -> None:
    print(text, flush=True)


def headline(text: str) -> None:
    say(f"\n--- {text} " + "-" * max(0, 100 - len(text)))


def give_up(text: str) -> NoReturn:
    print(f"demo: {text}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def place_of(path: Path) -> str:
    """As a person in the project's folder would write it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def end_on_sigterm() -> None:
    """SIGTERM ends a demo as Ctrl-C does: with everything stopped."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def fresh_folder(place: Path) -> None:
    """Makes a demo's folder anew. Ends the demo where a Penstock still runs on the data in it, or it can't be made."""
    lock = place / "data" / "lock"
    if lock.exists():
        with lock.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                give_up(f"{place_of(place)}/data is in use by a `penstock up` or another demo: stop that first")
    shutil.rmtree(place, ignore_errors=True)
    if place.exists():
        give_up(f"{place_of(place)} can't be thrown away: it is no folder, or somebody else's. Remove it first")
    place.mkdir(parents=True)


class Penstock:
    """`penstock up` over one data folder, started, killed and started again; and commands to it."""

    def __init__(self, data: Path, log: Path) -> None:
        self._data = data
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def start(self) -> None:
        """Starts it on a free port and waits until it is ready. Ends the demo when it is not."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
        # Declared programs that begin with `python3` run on the Python that Penstock runs on, which is new enough.
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
        with self._log.open("ab") as errors:
            self._process = subprocess.Popen(
                [*PENSTOCK, "up", "--data", str(self._data)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                # Not in the terminal's group: a Ctrl-C is ours to pass on, once the demo has said so.
                process_group=0,
            )
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], READY_SECONDS)
        line = self._process.stdout.readline() if ready else ""
        if not line.startswith("ready "):
            give_up(f"`penstock up` did not start; its log is {place_of(self._log)}")
        self.url = line.split()[1]

    def stop(self) -> None:
        """Stops it as a Ctrl-C would; nothing to do where it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def kill(self) -> int:
        """SIGKILL to the supervisor, which takes every other program with it; its pid."""
        process, self._process = self._process, None
        assert process is not None
        assert process.stdout is not None
        process.kill()
        process.wait()
        process.stdout.close()
        return process.pid

    def run(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> int:
        """Shows `$ penstock …` and runs it before the user's eyes. Another exit code than accepted ends the demo."""
        say(f"\n$ penstock {shlex.join(arguments)}")
        code = subprocess.run(self._line(arguments), cwd=ROOT, check=False, stdin=subprocess.DEVNULL).returncode
        if code not in accept:
            give_up(f"`penstock {' '.join(arguments[:2])}` ended with {code}; logs: {place_of(self._log)}")
        return code

    def ask(self, *arguments: str) -> str:
        """What a command prints, for the demo's own eyes."""
        result = subprocess.run(
            self._line(arguments), cwd=ROOT, text=True, capture_output=True, check=False, stdin=subprocess.DEVNULL
        )
        if result.returncode:
            give_up(f"`penstock {' '.join(arguments)}` ended with {result.returncode}: {result.stderr.strip()}")
        return result.stdout

    def ask_json(self, *arguments: str) -> Any:
        return json.loads(self.ask(*arguments, "--json"))

    def ask_lines(self, *arguments: str) -> list[Any]:
        """Of commands that print one JSON object a line."""
        return [json.loads(line) for line in self.ask(*arguments, "--json").splitlines()]

    def rows(self, source: str, *, result_of: str) -> list[Any]:
        """All rows of a source with their latest results, as a grid would page through them."""
        found: list[Any] = []
        while True:
            asked = ("--result-of", result_of, "--skip", str(len(found)), "--limit", str(ROWS_OF_A_PAGE))
            page = self.ask_json("sources", "rows", source, *asked)
            found += page["rows"]
            if not page["rows"] or len(found) >= page["total"]:
                return found

    def _line(self, arguments: tuple[str, ...]) -> list[str]:
        return [*PENSTOCK, *arguments, "--data", str(self._data)]


@contextlib.contextmanager
def running(data: Path, log: Path) -> Iterator[Penstock]:
    """A started Penstock, stopped whatever happens."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    penstock = Penstock(data, log)
    try:
        penstock.start()
        yield penstock
    finally:
        penstock.stop()


def play(main: Callable[[], int]) -> NoReturn:
    """Runs a demo's main function as the program: an exit code, and one line for Ctrl-C, SIGTERM and a folder that
    can't be written."""
    end_on_sigterm()
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        place = Path(os.fsdecode(error.filename or ""))
        if error.errno == errno.ENOSPC:
            give_up(f"the disk is full: free some space for {place_of(OUT)}")
        if not place.is_relative_to(OUT):
            raise
        give_up(f"{place_of(place)} can't be written: {error.strerror}")
