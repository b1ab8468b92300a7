"""The plan of `tests.bench.selection` by pandas: `python pandas_plan.py FOLDER whole|filtered`.

Runs by itself in an environment of its own, whose packages this project does not have (`tests.bench.pandas_packages`).
It gets what helps: natural sort keys stand in the snapshot, and of the snapshot it reads the columns that it needs.
Prints what it took and the hash of its keys in order, as JSON.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

_ORDERED = ["rank", "s0", "s1", "s2", "key"]
_WRITTEN = ["key", "group", "payload"]
_PRICE, _ACTIVE, _VARIANT = "f4", "f7", "f3"


def plan(folder: Path, *, whole: bool, ranks: list[str]) -> Any:
    pandas: Any = importlib.import_module("pandas")
    filtered = [] if whole else [_PRICE, _ACTIVE, _VARIANT]
    rows = pandas.read_parquet(folder / "snapshot", columns=[*_WRITTEN, *_ORDERED[1:4], *filtered])
    if not whole:
        black = rows[_VARIANT].str.contains("black", case=False, regex=False).fillna(False).astype(bool)
        rows = rows[(rows[_PRICE] < 300) & rows[_ACTIVE] & ~black]
    rank = rows["group"].map({group: number for number, group in enumerate(ranks)}).fillna(len(ranks))
    # Its texts are ordered by bytes, as Penstock's; a variant that is null counts as empty.
    rows = rows.assign(rank=rank, s2=rows["s2"].fillna("")).sort_values(_ORDERED, ignore_index=True)[_WRITTEN]
    rows.to_parquet(folder / "plan-of-pandas", compression="snappy", row_group_size=10_240)
    rows.groupby("group", sort=False).size()
    return rows["key"]


def main() -> None:
    folder, what, ranks = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    importlib.import_module("pandas")  # loading it is not counted
    importlib.import_module("pyarrow.parquet")
    began, before = time.perf_counter(), time.process_time()
    keys = plan(folder, whole=what == "whole", ranks=ranks)
    told: dict[str, str | float] = {
        "seconds": time.perf_counter() - began,
        "cpu_seconds": time.process_time() - before,
    }
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            told["peak_mb"] = int(line.split()[1]) / 1024
    found = hashlib.sha256()
    for first in range(0, len(keys), 10_000):
        found.update("\n".join(keys.iloc[first : first + 10_000]).encode())
    print(json.dumps(told | {"keys": found.hexdigest()}))


if __name__ == "__main__":
    main()
