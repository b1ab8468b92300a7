"""Results as aligned tables for people and as JSON for programs, each with the machine that made them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

__all__ = ["Value", "machine", "printed", "versions", "written"]

Value = str | int | float | None


def machine() -> dict[str, str | int]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "memory_gb": round(memory / 2**30),
    }


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "scipy", "scikit-learn", "igraph")},
    }


def printed(title: str, columns: Sequence[str], rows: Sequence[Sequence[Value]]) -> None:
    """Prints a table: the first column to the left, the others to the right; floats with three decimals."""
    cells = [list(columns), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(columns))]
    print(f"\n{title}")
    for number, row in enumerate(cells):
        line = "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        print(f"  {line.rstrip()}")
        if number == 0:
            print("  " + "  ".join("-" * width for width in widths))


def written(path: Path, name: str, tables: dict[str, list[dict[str, Value]]]) -> None:
    """Writes {name, machine, versions, tables: {title: rows}}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"name": name, "machine": machine(), "versions": versions(), "tables": tables}
    path.write_text(json.dumps(document, indent=1) + "\n")


def _cell(value: Value) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
