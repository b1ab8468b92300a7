"""Catalogs of 1,000,000 and 10,000,000 rows of 12 columns, from their bytes to a complete version.

The rows are made up: texts, whole numbers, prices, booleans, dates, times, 130 bytes a row as CSV, twice that as JSON
lines. Making the files is not timed, checking keys, statistics and the id are. Each format is read in a child process,
as the planner does, and started by a process of its own, so that its peak is its own. `difference` compares the version
with one in which each thousandth row has changed.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from planner.tables.process import TableReader
from planner.tables.wanted import TableBounds, TableFile, Wanted
from tests.bench import report

SIZES = (1_000_000, 10_000_000)
QUICK_SIZES = (100_000,)
FORMATS = ("csv", "jsonl", "jsonl.gz", "parquet", "difference")
BOUNDS = {1_000_000: (6.0, 700.0), 10_000_000: (60.0, 1_536.0)}
NAMES = (
    *("product_id", "brand", "model", "variant", "sku", "price", "weight_grams", "wireless", "dpi", "released"),
    *("updated", "notes"),
)
WORDS = (
    *("viper", "basilisk", "orion", "mini", "ultra", "wireless", "lite", "speed"),
    *("core", "glide", "model", "air", "hunt", "ergo", "max", "pro"),
)
_BATCH = 10_000
_MEMORY = 1 << 20


def main(*, quick: bool = False) -> int:
    rows: list[report.Row] = []
    for size in QUICK_SIZES if quick else SIZES:
        folder = Path(tempfile.mkdtemp(prefix="pen-bench-tables-"))
        try:
            make(folder, size)
            for form in FORMATS:
                command = [sys.executable, "-m", "tests.bench.tables", form, str(size), str(folder)]
                answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1_800)
                rows.append(json.loads(answer.stdout))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    report.write("tables", rows)
    late = missed(rows)
    for line in late:
        print(f"  past its bound: {line}")
    return 1 if late and not quick else 0  # at small sizes the start of the process counts


def missed(rows: list[report.Row]) -> list[str]:
    """A sentence for each bound that was passed, and one where formats disagree."""
    late = []
    for row in rows:
        for value, bound in (("seconds", "bound_seconds"), ("peak_mb", "bound_mb")):
            most = row[bound]
            if isinstance(most, float) and float(row[value] or 0) > most:
                late.append(f"{row['system']}, {row['items']:,} rows: {value} {row[value]}; the bound is {most:g}")
    for size in {row["items"] for row in rows}:
        found = {row["version"] for row in rows if row["items"] == size and row["version"]}
        if len(found) > 1:
            late.append(f"{size:,} rows are {len(found)} versions, one for a format")
    return late


def measure(form: str, size: int, folder: Path) -> report.Row:
    """Reads one format, or compares; in a process of its own."""
    upload = folder / "upload"
    upload.mkdir()
    reader, stop = TableReader(TableBounds()), threading.Event()
    began = time.perf_counter()
    version, kept = "", 0
    if form == "difference":
        found = reader.compare(folder / "old.parquet", folder / "new.parquet", folder=upload, stop=stop)
        assert (found.changed, found.added, found.removed) == (size // 1_000, 0, 0), found
    else:
        file = folder / f"t.{form}"
        table = reader.read([TableFile(file.name, file)], Wanted(), folder=upload, stop=stop)
        assert table.row_count == size
        version, kept = table.version_id, table.snapshot.stat().st_size
    seconds = time.perf_counter() - began
    child = resource.getrusage(resource.RUSAGE_CHILDREN)
    if form == "csv":
        _alter(folder, upload / "snapshot.parquet")
    shutil.rmtree(upload)
    bound_seconds, bound_mb = BOUNDS.get(size, (None, None))
    return {
        "system": f"planner tables {form}",
        "items": size,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(child.ru_utime + child.ru_stime, 2),
        "peak_mb": round(child.ru_maxrss / 1024, 1),
        "snapshot_mb": round(kept / _MEMORY, 1),
        "bound_seconds": bound_seconds,
        "bound_mb": bound_mb,
        "version": version[-8:],
    }


def make(folder: Path, size: int) -> None:
    """The same rows in each format."""
    packer = zlib.compressobj(1, wbits=31)
    with ExitStack() as files:
        text, lines, packed = (files.enter_context((folder / f"t.{form}").open("wb")) for form in FORMATS[:3])
        text.write(",".join(NAMES).encode() + b"\n")
        for batch in _batches(size):
            text.write("".join(",".join(_cell(cell) for cell in row.values()) + "\n" for row in batch).encode())
            data = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in batch).encode()
            lines.write(data)
            packed.write(packer.compress(data))
        packed.write(packer.flush())
    import duckdb

    with duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as connection:
        connection.execute(
            f"COPY (SELECT * FROM read_csv('{folder / 't.csv'}')) TO '{folder / 't.parquet'}' (FORMAT parquet)"
        )


def _batches(size: int) -> Iterator[list[Mapping[str, str | int | float | bool | None]]]:
    draw = random.Random(size)
    for first in range(0, size, _BATCH):
        yield [_row(number, draw) for number in range(first, min(size, first + _BATCH))]


def _row(number: int, draw: random.Random) -> Mapping[str, str | int | float | bool | None]:
    day = f"{draw.randrange(1, 13):02d}-{draw.randrange(1, 29):02d}"
    return {
        "product_id": f"mouse-{number:08d}",
        "brand": f"Brand {draw.randrange(200)}",
        "model": f"{draw.choice(WORDS)} {draw.choice(WORDS)} {draw.randrange(1, 40)}",
        "variant": draw.choice(("black", "white", None, f"edition {draw.randrange(9)}")),
        "sku": f"{draw.randrange(10**6):06d}-X{number % 97}",
        "price": round(draw.uniform(5, 300), 2),
        "weight_grams": draw.randrange(40, 150),
        "wireless": draw.random() < 0.5,
        "dpi": draw.randrange(1, 60) * 500,
        "released": f"20{draw.randrange(10, 25)}-{day}",
        "updated": f"2024-{day}T{draw.randrange(24):02d}:{draw.randrange(60):02d}:00Z",
        "notes": " ".join(draw.choices(WORDS, k=draw.randrange(9))) or None,
    }


def _cell(cell: str | int | float | bool | None) -> str:
    return "" if cell is None else str(cell).lower() if isinstance(cell, bool) else str(cell)


def _alter(folder: Path, snapshot: Path) -> None:
    """Two versions to compare: as it is, and with every thousandth payload changed."""
    import duckdb

    shutil.copy(snapshot, folder / "old.parquet")
    with duckdb.connect(config={"threads": 2, "memory_limit": "1GB"}) as connection:
        connection.execute(
            "COPY (SELECT key, \"group\", CASE WHEN key[-3:] = '000' THEN payload || ' ' ELSE payload END AS payload "
            f"FROM read_parquet('{snapshot}')) TO '{folder / 'new.parquet'}' (FORMAT parquet)"
        )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
    else:
        raise SystemExit(main(quick="--quick" in sys.argv))
