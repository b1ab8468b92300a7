"""`python -m tests.cluster.tools [NAME…|all]`, names as in MODULES: builds, then prints where."""

from __future__ import annotations

import sys

from tests.cluster import tools


def say(line: str) -> None:
    print(f"tools: {line}", flush=True)


def main(words: list[str]) -> int:
    wanted = words or ["all"]
    unknown = [word for word in wanted if word != "all" and word not in tools.MODULES]
    if unknown:
        print(f"no such module: {', '.join(unknown)}; there are {', '.join(tools.MODULES)}, all", file=sys.stderr)
        return 2
    names = list(tools.MODULES) if "all" in wanted else wanted
    try:
        folder = tools.build(names, say=say)
    except tools.BuildFailed as error:
        print(f"tools: {error}", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
