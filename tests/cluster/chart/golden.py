"""Renders as they were looked at: `python -m tests.cluster.chart.golden --write` writes them, a test compares.

A difference is a change of what users run: it is read in the diff of golden/*.yaml, and then written. Certificates and
tokens are random, and a word stands for each; hashes of what holds none of them stay.
"""

from __future__ import annotations

import re
import sys

from tests.cluster.chart.rendering import HERE, VALUES, text

__all__ = ["FOLDER", "golden"]

FOLDER = HERE / "golden"
_RANDOM = re.compile(r"^( +(?:ca\.crt|tls\.crt|tls\.key|admin-token): )[A-Za-z0-9+/=]{40,}$", re.M)


def golden(name: str) -> str:
    """What the values file of that name renders to, without what is random."""
    return _RANDOM.sub(r"\1MADE", text(name)).lstrip("\n")


def main(words: list[str]) -> int:
    if words != ["--write"]:
        print("usage: python -m tests.cluster.chart.golden --write", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    for name in VALUES:
        (FOLDER / f"{name}.yaml").write_text(golden(name))
        print(f"golden: {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
