"""`make bench`: every measure, one after another; `--quick` for smaller sizes, names to choose: `startup documents`."""

from __future__ import annotations

import importlib
import sys

NAMES = ("startup", "documents", "collection", "scheduler", "seeing")


def main() -> int:
    chosen = [name for name in sys.argv[1:] if not name.startswith("-")] or list(NAMES)
    unknown = [name for name in chosen if name not in NAMES]
    if unknown:
        print(f"bench: no such measure: {unknown[0]}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    code = 0
    for name in chosen:
        code |= int(importlib.import_module(f"tests.bench.{name}").main(quick="--quick" in sys.argv) or 0)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
