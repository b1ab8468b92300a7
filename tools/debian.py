"""A program of Debian's in a folder of its own: `python -m tools.debian redis|chromium FOLDER`; put that on PATH.

Nothing is installed: packages are downloaded and unpacked, and a small script starts the program with its libraries.
Ends with 3, naming why, where the machine is no Debian or reaches no packages; tests that need the program are skipped
then: those of TLS, and the suite of leases on a newer Redis than the wheel's, or those of the page.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

NOT_HERE = 3
ONCE = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10", "-o", "Acquire::https::Timeout=10")
"""A place of packages that does not answer is given up."""


@dataclass(frozen=True)
class Program:
    name: str
    """Of the script."""
    path: str
    """Below the root of its packages."""
    packages: tuple[str, ...]
    """What is unpacked; none: the package of the program's name, and whatever of its needs this machine lacks."""


PROGRAMS = {
    "redis": Program(
        "redis-server",
        "usr/bin/redis-server",
        ("redis-server", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1", "libsystemd0"),
    ),
    "chromium": Program("chromium", "usr/lib/chromium/chromium", ()),
}


def unpack(program: Program, folder: Path) -> Path:
    """Makes the script FOLDER/NAME; its path. Raises OSError, subprocess.CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    with tempfile.TemporaryDirectory(prefix="pen-deb-") as place:
        Path(place).chmod(0o755)
        packages = program.packages or _lacking(program.name)
        subprocess.run(["apt-get", "download", "-qq", *ONCE, *packages], cwd=place, check=True)
        for package in sorted(Path(place).glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
    binary = root / program.path
    # What lies beside the program it finds by itself.
    folders = {path.parent for path in root.rglob("*.so*")} - {binary.parent}
    libraries = ":".join(str(path) for path in sorted(folders))
    # A binary may take its role from its name: redis-check-rdb is the same file as redis-server.
    script = folder / f"{program.name}.part"
    script.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{binary}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    subprocess.run([str(script), "--version"], check=True)  # one that can't start here is none
    return script.rename(folder / program.name)


def _lacking(package: str) -> list[str]:
    """It, and what it needs that is not installed here."""
    command = ["apt-get", "install", "--simulate", "--no-install-recommends", package]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    return [line.split()[1] for line in said.splitlines() if line.startswith("Inst ")]


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in PROGRAMS:
        print(__doc__, file=sys.stderr)
        return 2
    program = PROGRAMS[sys.argv[1]]
    missing = [name for name in ("apt-get", "dpkg") if shutil.which(name) is None]
    if missing:
        print(f"Debian's {program.name}: no {missing[0]} here", file=sys.stderr)
        return NOT_HERE
    try:
        unpack(program, Path(sys.argv[2]).resolve())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"Debian's {program.name} can't be had: {error}", file=sys.stderr)
        return NOT_HERE
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
