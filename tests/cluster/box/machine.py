"""What of a box the kernel does not take back: cgroups, the machine's sysctls, empty folders to mount upon.

One account for the machine, in /run, under one lock. A box holds a lock on its own file there for as long as its guard
lives; a file without a holder is of a box that was killed, and whoever comes next clears up after it. The sysctls are
those from before the first box of several that overlap, and are put back when the last one leaves.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from tests.cluster.box.place import MOUNTS, cgroup_name

ACCOUNT = Path("/run/penstock-cluster")
SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""What a kubelet sets for the whole machine."""
CGROUPS = Path("/sys/fs/cgroup")
_EMPTY_SECONDS = 5.0
"""How long the kernel may take until processes that were killed are out of their cgroups."""


@dataclass(frozen=True)
class Entry:
    """A box in the account; `held` carries its lock."""

    name: str
    held: TextIO


def enter(name: str, state: Path) -> Entry:
    """Clears up after dead boxes, saves what will be put back, makes the folders to mount upon."""
    with _locked():
        _sweep()
        if not _saved().exists():
            _write(sysctls=sysctls(), made=[])
        _make_folders()
        held = (ACCOUNT / "boxes" / name).open("w")
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(str(state))
        held.flush()
        return Entry(name, held)


def leave(entry: Entry) -> None:
    """Removes what the box has left; the last box puts the machine's sysctls back. All its processes are dead."""
    with _locked():
        _clear(entry.name)
        entry.held.close()
        _sweep()


def occupied() -> bool:
    """Whether any box lives on this machine now; clears up after those that were killed."""
    with _locked():
        _sweep()
        return any((ACCOUNT / "boxes").iterdir())


def sysctls() -> dict[str, str]:
    """As they are now."""
    return {key: _sysctl(key).read_text().strip() for key in SYSCTLS if _sysctl(key).exists()}


def cgroups(name: str) -> list[Path]:
    """The folders of a box in all hierarchies."""
    return sorted(CGROUPS.glob(f"*/{cgroup_name(name)}"))


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    (ACCOUNT / "boxes").mkdir(parents=True, exist_ok=True)
    with (ACCOUNT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sweep() -> None:
    """Clears up after boxes without a guard. With no box left, the machine is as before the first."""
    alive = False
    for path in (ACCOUNT / "boxes").iterdir():
        with path.open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                alive = True
                continue
            _clear(path.name)
    if not alive and _saved().exists():
        account = json.loads(_saved().read_text())
        for key, value in account["sysctls"].items():
            if _sysctl(key).read_text().strip() != value:
                _sysctl(key).write_text(value)
        # Deepest first. Never while a box lives: to remove a folder ends what others have mounted upon it.
        for folder in reversed(account["made"]):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        _saved().unlink()


def _clear(name: str) -> None:
    path = ACCOUNT / "boxes" / name
    deadline = time.monotonic() + _EMPTY_SECONDS
    while (left := cgroups(name)) and time.monotonic() < deadline:
        for top in left:
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        if cgroups(name):
            time.sleep(0.05)
    if state := path.read_text():
        shutil.rmtree(state, ignore_errors=True)
    if not cgroups(name):
        path.unlink()


def _make_folders() -> None:
    account = json.loads(_saved().read_text())
    for mount in MOUNTS:
        for folder in [*reversed(Path(mount).parents), Path(mount)]:
            if not folder.exists():
                # Written before it is made: whoever finds this account removes what there is.
                account["made"].append(str(folder))
                _write(**account)
                folder.mkdir(mode=0o755)


def _saved() -> Path:
    return ACCOUNT / "before.json"


def _sysctl(key: str) -> Path:
    return Path("/proc/sys") / key


def _write(*, sysctls: dict[str, str], made: list[str]) -> None:
    half = ACCOUNT / "before.half"
    half.write_text(json.dumps({"sysctls": sysctls, "made": made}))
    half.replace(_saved())
