"""Shutting this process in, for good: after `confine` it has what it holds and gets nothing else.

What each step does by itself, as tests show one by one (tests/integration/planner/test_sandbox_confinement.py):

| step | by itself it stops | who may |
|---|---|---|
| no descriptors (RLIMIT_NOFILE 0) | opening any file, socket, pipe or folder, for reading or writing | everybody |
| no growth (RLIMIT_FSIZE 0) | writing to files, not emptying or removing them | everybody |
| no processes (RLIMIT_NPROC 0) | fork and threads, of all but root | everybody |
| Landlock | opening, making, emptying, renaming, removing anything by name; TCP | Linux 5.13 and up |
| another user, no capabilities | changing files of others, reading their private ones | root |
| an empty root folder (chroot) | reaching any file by name | root |
| a network of its own | reaching any host, the machine itself too | root |

The first holds for all that SQL could ask for but removing, renaming and emptying by name, which need no descriptor;
each of Landlock, another user and the empty root stops these. DuckDB has no such function that a SELECT reaches, and
its own file system is off besides. A limit that is refused to us ends the child; what only some may is tried, and that
root never stays root without Landlock is checked. Linux only. A filter of system calls would add nothing that is not
stopped twice already, at the price of a table for each kind of machine.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["Bounds", "Unconfined", "confine"]

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWIPC, _CLONE_NEWNET = 0x08000000, 0x40000000
_CAPABILITY_VERSION = 0x20080522
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446  # the same on every kind of machine
_LANDLOCK_VERSION = 1
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
"""By version of Landlock, how many kinds of access to files it knows: one bit each."""

_AF_UNIX, _SOCK_STREAM = 1, 1
_libc = ctypes.CDLL(None, use_errno=True)


class Unconfined(Exception):
    """This process could not be shut in: nothing may run in it."""


@dataclass(frozen=True)
class Bounds:
    """seconds: until it ends itself, should the planner not have ended it. user: whom root becomes."""

    seconds: float
    memory_bytes: int
    user: int


def confine(bounds: Bounds, *, parent: int) -> None:
    """Everything, in the only order in which each step can still be made. Raises Unconfined."""
    try:
        bound(bounds)
        if os.geteuid() == 0:
            leave_network()
            leave_files()
            become(bounds.user)
        drop_rights()
        locked = lock_files()
        if os.geteuid() == 0 and not locked:
            raise Unconfined("root can't become another user here, and the kernel has no Landlock")
        tie(parent)
        stop_processes()
        stop_descriptors()
    except (OSError, ValueError) as error:
        raise Unconfined(str(error)) from error
    check()


def bound(bounds: Bounds) -> None:
    """Memory, processor time, wall time, files that grow, core dumps. The kernel ends what passes them."""
    seconds = int(bounds.seconds) + 1
    _limit(resource.RLIMIT_AS, bounds.memory_bytes)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, bounds.seconds)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when the machine has no memory left, this goes first


def leave_network() -> None:
    with suppress(OSError):
        _call(_libc.unshare, _CLONE_NEWNET | _CLONE_NEWIPC)


def leave_files() -> None:
    """The working folder, which the planner has removed, is all there is: nothing can be made in it."""
    with suppress(OSError):
        os.chroot(".")
        os.chdir("/")


def become(user: int) -> None:
    """For root: a user without rights. All capabilities go with it."""
    with suppress(PermissionError):
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)


def drop_rights() -> None:
    """What is left of root's rights, or was given to a user who is not root."""
    header, none = struct.pack("=Ii", _CAPABILITY_VERSION, 0), bytes(24)
    _call(_libc.capset, header, none)


def lock_files() -> bool:
    """Landlock with no exception. False: the kernel has none."""
    version: int = _libc.syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_VERSION)
    _call(_libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if version < 1:
        return False
    handled = [(1 << _FILE_RIGHTS.get(version, 16)) - 1]
    if version >= 4:
        handled.append(0b11)  # binding and connecting by TCP
    if version >= 6:
        handled.append(0b11)  # abstract unix sockets and signals, out of here
    rules = struct.pack(f"={len(handled)}Q", *handled)
    fd = _call(_libc.syscall, _LANDLOCK_CREATE_RULESET, rules, len(rules), 0)
    try:
        _call(_libc.syscall, _LANDLOCK_RESTRICT_SELF, fd, 0)
    finally:
        os.close(fd)
    return True


def tie(parent: int) -> None:
    """Dies with the planner; may not be looked into by its equals. After `become`, which would undo it."""
    _call(_libc.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _call(_libc.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent:  # it died before this could see it
        raise Unconfined("the planner is gone")


def stop_processes() -> None:
    _limit(resource.RLIMIT_NPROC, 0)


def stop_descriptors() -> None:
    """What is open stays open; no number is left for anything else."""
    _limit(resource.RLIMIT_NOFILE, 0)


def check() -> None:
    """That the first line holds is seen, not believed."""
    if (fd := _libc.socket(_AF_UNIX, _SOCK_STREAM, 0)) >= 0:
        os.close(fd)
        raise Unconfined("it can still open sockets")
    with suppress(OSError):
        os.close(os.open("/", os.O_RDONLY))
        raise Unconfined("it can still open files")


def _limit(which: int, value: int) -> None:
    resource.setrlimit(which, (value, value))


def _call(function: Callable[..., int], *arguments: object) -> int:
    result = function(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
