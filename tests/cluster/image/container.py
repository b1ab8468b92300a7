"""A container as restricted as the cluster's: the image's files read-only, no network, no rights, PID 1 its own.

Namespaces are made by unshare(1), so that they end with what runs in them, however that ends: mounts and processes of
a test never outlive it. The files are unpacked once; only /tmp and the data folder are writable, in memory.
"""

from __future__ import annotations

import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.image.archive import Archive

__all__ = ["USER", "Container", "unpacked"]

USER = 65532
PATIENCE_SECONDS = 120

_ENTER = """
set -e
root="$1"; shift
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o uid=65532,gid=65532,mode=0750 tmpfs "$root/var/lib/penstock"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec setpriv --no-new-privs chroot --userspec=65532:65532 --groups= "$root" "$@"
"""


def unpacked(image: Archive, folder: Path) -> Path:
    """The image's files as they are, owners and modes too; needs root."""
    folder.chmod(0o755)
    with tarfile.open(image.path) as outer:
        for number, name in enumerate(image.members):
            with tarfile.open(fileobj=outer.extractfile(name)) as layer:
                here = [
                    info
                    for info in layer
                    if (file := image.files.get(info.name.removeprefix("./").strip("/"))) and file.layer == number
                ]
                layer.extractall(folder, here, numeric_owner=True, filter="fully_trusted")
    return folder


@dataclass(frozen=True, kw_only=True)
class Container:
    """What is started in the image."""

    root: Path
    config: Mapping[str, Any]

    def command(self, arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
        """The image's own entry and environment, and what is given."""
        given = {**dict(one.split("=", 1) for one in self.config["Env"]), **environment}
        return [
            *("unshare", "--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child"),
            *("sh", "-c", _ENTER, "enter", str(self.root)),
            *("/usr/bin/env", "-i", f"--chdir={self.config['WorkingDir']}"),
            *(f"{name}={value}" for name, value in given.items()),
            *self.config["Entrypoint"],
            *arguments,
        ]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(arguments, environment),
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE_SECONDS,
        )

    @contextmanager
    def started(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """The process with its output, and the number outside of what is PID 1 inside."""
        with subprocess.Popen(
            self.command(arguments, {}), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process, _first(process.pid)
            finally:
                process.kill()

    def python(self, program: str, *arguments: str) -> str:
        """What a program of Python's prints; it must end well."""
        ended = self.run("python", "-c", program, *arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


def _first(unshare: int) -> int:
    """The one child of unshare: PID 1 of the new namespace."""
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if children := Path(f"/proc/{unshare}/task/{unshare}/children").read_text().split():
            return int(children[0])
        time.sleep(0.005)
    raise TimeoutError("unshare started nothing")
