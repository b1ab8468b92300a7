"""Debian's redis-server in a folder of its own: `python -m tools.debian_redis FOLDER`, then put FOLDER on PATH.

Nothing is installed: packages are downloaded and unpacked, and a small script starts the program with its libraries.
Ends with 3, naming why, where the machine is no Debian or reaches no packages; the suite of leases then runs on the
wheel's Redis alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("redis-server", "redis-tools", "libatomic1", "libjemalloc2", "liblzf1", "libsystemd0")
NOT_HERE = 3


def unpack(folder: Path) -> Path:
    """Makes FOLDER/redis-server; its path. Raises subprocess.CalledProcessError."""
    folder.mkdir(parents=True, exist_ok=True)
    root = folder / "root"
    with tempfile.TemporaryDirectory(prefix="pen-deb-") as place:
        Path(place).chmod(0o755)
        subprocess.run(["apt-get", "download", "-qq", *PACKAGES], cwd=place, check=True)
        for package in sorted(Path(place).glob("*.deb")):
            subprocess.run(["dpkg", "-x", str(package), str(root)], check=True)
    libraries = ":".join(str(path) for path in sorted({path.parent for path in root.rglob("*.so.*")}))
    program = folder / "redis-server"
    # The binary takes its role from its name: redis-check-rdb is the same file.
    program.write_text(
        f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{root}/usr/bin/redis-server" "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)
    return program


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    missing = [name for name in ("apt-get", "dpkg") if shutil.which(name) is None]
    if missing:
        print(f"Debian's Redis: no {missing[0]} here", file=sys.stderr)
        return NOT_HERE
    try:
        program = unpack(Path(sys.argv[1]).resolve())
    except subprocess.CalledProcessError as error:
        print(f"Debian's Redis can't be had: {error}", file=sys.stderr)
        return NOT_HERE
    version = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    print(version.strip())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
