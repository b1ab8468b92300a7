"""Ports on loopback: kept for programs that may die and come back, and who holds one that is taken.

A reservation is a socket that is bound and does not listen. Nobody is given its port by chance while the program that
serves on it is away, and the program can bind it all the same (both set SO_REUSEADDR, which Linux allows as long as
nobody listens). Two supervisors that would reserve the same port are told apart by an abstract socket name, which the
kernel frees when its holder dies.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from penstock.supervisor.processes import command

__all__ = ["HOST", "Holder", "Reservation", "first_free", "holder", "reserve"]

HOST = "127.0.0.1"
_LISTEN = "0A"
_SHOWN = 120


@dataclass(frozen=True)
class Reservation:
    port: int
    _sockets: tuple[socket.socket, ...]

    def close(self) -> None:
        for one in self._sockets:
            one.close()


@dataclass(frozen=True)
class Holder:
    """Who listens on a port. pid is None when the process belongs to somebody else."""

    pid: int | None
    what: str

    def __str__(self) -> str:
        return self.what if self.pid is None else f"process {self.pid} ({self.what})"


def reserve(port: int) -> Reservation | None:
    """Keeps `port` (0: any free one) until closed; None when somebody has it."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    mark = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind((HOST, port))
        number = int(bound.getsockname()[1])
        mark.bind(f"\0penstock-port-{number}")
    except OSError:
        bound.close()
        mark.close()
        return None
    return Reservation(number, (bound, mark))


def first_free(ports: Iterable[int]) -> Reservation | None:
    """The first of these that nobody has."""
    for port in ports:
        kept = reserve(port)
        if kept is not None:
            return kept
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(fields[9])
    return inodes


def _open_files(pid: str) -> set[str]:
    links = set()
    with contextlib.suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                links.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return links


def holder(port: int) -> Holder:
    """Who listens on `port`, as far as this user may see."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for entry in os.listdir("/proc") if wanted else ():
        if entry.isdigit() and wanted & _open_files(entry):
            words = " ".join(command(int(entry)))
            return Holder(int(entry), words if len(words) <= _SHOWN else words[: _SHOWN - 1] + "…")
    return Holder(None, "another user's process" if wanted else "another `penstock up` that is just starting")
