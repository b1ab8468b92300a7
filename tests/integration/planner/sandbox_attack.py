"""What somebody could do who had taken over a process of the sandbox: run under some of its defences, and told.

`python -m tests.integration.planner.sandbox_attack FOLDER USER STEP…`: becomes USER (0: stays), takes the steps of
`planner.sandbox.child.confinement` that are named, and tries everything; the last line of its output is a JSON list of
what it could do. FOLDER has the files `given`, `other` and `third`, and the user can write in it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from planner.sandbox.child import confinement
from planner.sandbox.child.confinement import Bounds

__all__ = ["ATTACKS"]


def _read(folder: Path) -> None:
    os.close(os.open(folder / "other", os.O_RDONLY))


def _list(folder: Path) -> None:
    os.listdir(folder)


def _write(folder: Path) -> None:
    fd = os.open(folder / "other", os.O_WRONLY)
    assert os.pwrite(fd, b"x", 0) == 1


def _empty_by_open(folder: Path) -> None:
    os.close(os.open(folder / "other", os.O_WRONLY | os.O_TRUNC))


def _empty(folder: Path) -> None:
    os.truncate(folder / "other", 0)


def _make(folder: Path) -> None:
    os.close(os.open(folder / "new", os.O_CREAT | os.O_WRONLY))


def _make_here(folder: Path) -> None:
    os.mkdir("new")


def _make_folder(folder: Path) -> None:
    os.mkdir(folder / "folder")


def _rename(folder: Path) -> None:
    os.rename(folder / "third", folder / "renamed")


def _remove(folder: Path) -> None:
    os.unlink(folder / "other")


def _write_what_is_given(folder: Path) -> None:
    assert os.pwrite(GIVEN, b"x", 0) == 1


def _open_what_is_given_anew(folder: Path) -> None:
    os.close(os.open(f"/proc/self/fd/{GIVEN}", os.O_WRONLY))


def _read_what_is_given(folder: Path) -> None:
    assert os.pread(GIVEN, 1, 0) == b"g"


def _connect(folder: Path) -> None:
    with socket.socket() as client:
        client.connect(("127.0.0.1", PORT))


def _datagram(folder: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(b"x", ("127.0.0.1", PORT))


def _fork(folder: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


ATTACKS: dict[str, Callable[[Path], None]] = {
    "read what is given": _read_what_is_given,  # which is no attack: it must go on
    "write what is given": _write_what_is_given,
    "open what is given anew": _open_what_is_given_anew,
    "fork": _fork,
    "connect": _connect,
    "datagram": _datagram,
    "list": _list,
    "read": _read,
    "write": _write,
    "empty by open": _empty_by_open,
    "empty": _empty,
    "make": _make,
    "make here": _make_here,
    "make folder": _make_folder,
    "rename": _rename,
    "remove": _remove,
}
GIVEN, PORT = -1, -1


def main(folder: Path, user: int, steps: list[str]) -> None:
    global GIVEN, PORT
    listener = socket.create_server(("127.0.0.1", 0))
    PORT = listener.getsockname()[1]
    GIVEN = os.open(folder / "given", os.O_RDONLY)
    bounds = Bounds(seconds=20.0, memory_bytes=2 << 30, user=65_534)
    if user:
        confinement.become(user)
    for step in steps:
        match step:
            case "confine":
                confinement.confine(bounds, parent=os.getppid())
            case "bound":
                confinement.bound(bounds)
            case "become":
                confinement.become(bounds.user)
            case _:
                getattr(confinement, step)()
    could = []
    for name, attack in ATTACKS.items():
        with suppress(OSError):
            attack(folder)
            could.append(name)
    os.write(1, b"\n" + json.dumps(could).encode() + b"\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
