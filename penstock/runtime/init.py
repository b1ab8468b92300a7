"""The first process of a container: `penstock-init PROGRAM ARGS` starts PROGRAM and stands in for an init.

The kernel makes two demands of PID 1 that no program of ours answers by itself: orphans become its children and stay
zombies until it asks for them, and a signal for which it has no handler never reaches it. So this starts the program
as its child, hands on every signal, reaps whoever ends, and exits as the program did: with its code, or 128 + n when
signal n ended it. What still runs then is ended by the kernel, together with the container.

It imports the standard library alone and of that little, since each pod pays for it; it opens, reads and writes
nothing. It has no loop that polls and no handler: every signal is blocked before the child exists and is then waited
for, so that none can come too early. A program that can't be found ends it with 127 and one sentence, one that can't
be executed with 126, no program at all with 2.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["NOT_EXECUTABLE", "NOT_FOUND", "main", "run"]

NOT_EXECUTABLE = 126
NOT_FOUND = 127
USAGE = 2
PROGRAMS = "penstock-planner, penstock-scheduler, penstock-worker, penstock-analyzer, penstock-gateway, penstock"

_FAULTS = {
    signal.SIGSEGV,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGABRT,
    signal.SIGSYS,
}
"""Raised by this process's own mistakes: blocked they would be an endless loop, handed on a lie."""
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_SENT_BY_KERNEL = 128
"""`si_code` of what a terminal sends. It goes to the whole foreground group, and so has reached the child already."""
_OF_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH, signal.SIGHUP}
_PR_SET_CHILD_SUBREAPER = 36


def run(command: Sequence[str]) -> int:
    """Runs the command to its end; its exit code, or 128 + the number of the signal that ended it.

    Raises OSError when it can't be started.
    """
    # Who was started with SIGCHLD ignored has no zombies to ask for, and would wait for ever.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if os.getpid() != 1:
        _adopt_orphans()
    waited = signal.valid_signals() - _FAULTS - {signal.SIGKILL, signal.SIGSTOP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        child = os.posix_spawnp(
            command[0], [*command], os.environ, setsigmask=before, setsigdef=[*_IGNORED_BY_PYTHON, signal.SIGCHLD]
        )
        while True:
            told = signal.sigwaitinfo(waited)
            if told.si_signo == signal.SIGCHLD:
                code = _reap(child)
                if code is not None:
                    return code
            elif not (told.si_code == _SENT_BY_KERNEL and told.si_signo in _OF_TERMINAL):
                # Its pid can't be another's: it stays a zombie until we ask, and we ask in this loop alone.
                os.kill(child, told.si_signo)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap(child: int) -> int | None:
    """Asks for every child that has ended, since one SIGCHLD may tell of many; how ours did, if it was among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else 128 - ended


def _adopt_orphans() -> None:
    """Without a PID namespace of our own (tests, pods that share theirs) orphans come here only if the kernel is asked;
    a kernel that refuses leaves them to its own init."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> None:
    """The `penstock-init` command."""
    command = sys.argv[1:]
    if not command or command[0] in ("-h", "--help"):
        print(f"usage: penstock-init PROGRAM ARGUMENTS…   PROGRAM is one of {PROGRAMS}", file=sys.stderr)
        raise SystemExit(0 if command else USAGE)
    try:
        code = run(command)
    except FileNotFoundError:
        print(f"penstock-init: there is no program {command[0]!r} here; there are {PROGRAMS}", file=sys.stderr)
        code = NOT_FOUND
    except OSError as error:
        print(f"penstock-init: {command[0]!r} can't be executed: {error.strerror}", file=sys.stderr)
        code = NOT_EXECUTABLE
    # At once: the container has ended, and nobody waits for an interpreter to tidy up.
    sys.stderr.flush()
    os._exit(code)
