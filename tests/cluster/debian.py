"""File trees of Debian's packages, by mmdebstrap, from where this machine gets its own. Needs root and the network."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

__all__ = ["KEPT", "LEFT_OUT", "SUITE", "bootstrap", "lacking"]

SUITE = "bookworm"
LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
KEPT = "/usr/share/doc/*/copyright"
_SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")


def lacking() -> list[str]:
    """Why no packages can be had here; empty when they can."""
    return [] if _sources() else [f"no Debian package sources: neither {' nor '.join(_SOURCES)} is there"]


def bootstrap(root: Path, *, packages: Sequence[str], left_out: Sequence[str] = (), hooks: Sequence[str] = ()) -> None:
    """A minimal Debian with packages as a tar; half a minute, more on a busy machine. Raises CalledProcessError."""
    part = root.with_name(f"{root.name}.part")
    subprocess.run(
        [
            *("mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"),
            *(f"--dpkgopt=path-exclude={one}" for one in (*LEFT_OUT, *left_out)),
            f"--dpkgopt=path-include={KEPT}",
            # Where this machine gets its packages is nobody's business in a container.
            '--customize-hook=rm -rf "$1"/etc/apt/sources.list.d "$1"/etc/apt/sources.list',
            *hooks,
            *("--format=tar", SUITE, str(part), str(_sources())),
        ],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    part.replace(root)


def _sources() -> Path | None:
    """A file of this machine's own: an address out of it could be a comment."""
    return next((Path(one) for one in _SOURCES if Path(one).exists()), None)
