"""Choosing, ordering and looking at the rows of a catalog of 12 columns, beside SQLAlchemy + SQLite and pandas.

- *plan*: a filter and an order (pinned and ranked brands, then brand, model, variant in natural order);
  the ordered items with their payloads written, counted in all and per group. `whole`: without a filter.
- *grid*: pages of 100 rows by position, filtered, searched, sorted by any column, counted per group; every question is
  drawn anew. With one user, and with ten at once without think time.

Every system runs in a process of its own, which tells its peak memory (resident, shared pages counted in full); all
plans must have the same order. SQLite gets what helps it: natural sort keys and a lower-cased search column are stored,
the brand is indexed. It has no natural order for other columns and sorts those by their text. pandas reads the columns
that it needs, makes the plans, and has an environment of its own (`tests.bench.pandas_packages`).

`make bench ARGS="selection --large 10000000"`: the plan alone, at that size, of Penstock alone. `--plans`: no grid.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import duckdb
import sqlalchemy as sa

from planner.domain.ordering import Ordering, SortColumn
from planner.domain.selection import Selection
from planner.grid import Grid, GridQuery
from planner.grid_tables import GridTables
from planner.ordered import OrderedPlans
from planner.selecting import Wanted
from tests.bench import report
from tests.bench.pandas_packages import pandas_plan, pandas_python
from tests.bench.usage import peak_mb
from tests.snapshots import CATALOG, write_catalog

FILTER = "price < 300 AND active = true AND NOT variant:black"
PINNED, RANKED = ["Brand 7", "Brand 70"], [f"Brand {number}" for number in range(300, 310)]
PLAN_SECONDS, PLAN_MB = 2.0, 700.0
LARGE_SECONDS, LARGE_MB = 30.0, 1_536.0
PAGE_MS, QUESTION_MS = 50.0, 300.0
ONE_USER_MS, TEN_USERS_MS = 60.0, 150.0
USERS = 10
PAGE = 100
KINDS = ("page", "filter", "search", "sort", "groups", "all of these")
TEXTS = ("product_id", "brand", "model", "variant", "state", "url", "note")
NUMBERS = ("price", "stock", "rating", "active", "added")
WORDS = ("silent", "gaming", "office", "compact", "carbon", "limited", "shop-", "viper v", "no. ", "naga v", "P")

Asked = Callable[[GridQuery], int]
"""Answers how many rows the question takes."""


def question(draw: random.Random, kind: str, count: int) -> GridQuery:
    whole = kind == "all of these"
    searched = f"{draw.choice(WORDS)}{draw.randrange(100)}" if kind == "search" or whole else ""
    filtered = f"price < {draw.randrange(50_000) / 100} AND stock > {draw.randrange(4_000)}"
    sort = (SortColumn(draw.choice(TEXTS + NUMBERS), draw.random() < 0.5),) if kind == "sort" or whole else ()
    return GridQuery(
        filter=filtered if kind in ("filter", "groups") or whole else "",
        search=searched,
        sort=sort,
        offset=draw.randrange(count - PAGE) if kind in ("page", "sort") else 0,
        limit=PAGE,
        groups=kind == "groups" or whole,
    )


# -- Penstock


def penstock_plan(folder: Path, *, whole: bool) -> int:
    wanted = Wanted(
        snapshot=folder / "snapshot",
        schema=CATALOG,
        selection=Selection(everything=True) if whole else Selection(filter=FILTER),
        ordering=Ordering(pinned=PINNED, group_order=RANKED),
    )
    written = OrderedPlans(folder).write(wanted, folder / "plan")
    assert sum(group.count for group in written.groups) == written.count
    return written.count


def penstock_keys(folder: Path) -> str:
    found = hashlib.sha256()
    with duckdb.connect() as connection:
        rows = connection.execute("SELECT key FROM read_parquet($plan) ORDER BY seq", {"plan": str(folder / "plan")})
        while some := rows.fetchmany(10_000):
            found.update("\n".join(row[0] for row in some).encode())
    return found.hexdigest()


def penstock_grid(folder: Path) -> Asked:
    grid = Grid(GridTables(folder))
    return lambda query: grid.page(folder / "snapshot", CATALOG, query).total


# -- SQLAlchemy + SQLite

COLUMNS = [column.name for column in CATALOG.columns]
METADATA = sa.MetaData()
ITEMS = sa.Table(
    "items",
    METADATA,
    sa.Column("row", sa.Integer, primary_key=True),
    *(sa.Column(name, sa.Text) for name in ("key", "group", "payload", "s0", "s1", "s2", "search")),
    *(sa.Column(name, sa.Text if name in TEXTS else sa.Float) for name in COLUMNS),
)
PLAN = sa.Table(
    "plan",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True),
    *(sa.Column(name, sa.Text) for name in ("key", "group", "payload")),
)


def sqlite_engine(folder: Path) -> sa.Engine:
    return sa.create_engine(f"sqlite:///{folder / 'items.sqlite'}")


def write_sqlite(folder: Path) -> None:
    """The same rows in the same order."""
    engine = sqlite_engine(folder)
    METADATA.create_all(engine)
    fields = ", ".join(f"epoch_ms(f{at})" if name == "added" else f"f{at}" for at, name in enumerate(COLUMNS))
    searched = ", ".join(f"f{at}" for at in range(len(COLUMNS)))
    names = ["row", "key", "group", "payload", "s0", "s1", "s2", "search", *COLUMNS]
    with duckdb.connect() as source, engine.begin() as connection:
        rows = source.execute(
            f'SELECT file_row_number, key, "group", payload, s0, s1, s2, lower(concat_ws(chr(31), {searched})), '
            f"{fields} FROM read_parquet($snapshot, file_row_number = true)",
            {"snapshot": str(folder / "snapshot")},
        )
        while some := rows.fetchmany(20_000):
            connection.execute(sa.insert(ITEMS), [dict(zip(names, row, strict=True)) for row in some])
        connection.execute(sa.text("CREATE INDEX brands ON items (brand)"))
        connection.execute(sa.text("ANALYZE"))
    engine.dispose()


def sqlite_plan(folder: Path, *, whole: bool) -> int:
    c = ITEMS.c
    taken = sa.and_(c.price < 300, c.active == 1, sa.not_(sa.func.coalesce(c.variant.icontains("black"), sa.false())))
    ranks = {group: rank for rank, group in enumerate(PINNED + RANKED)}
    rank = sa.case(*((c.group == group, rank) for group, rank in ranks.items()), else_=len(ranks))
    chosen = sa.select(c.key, c.group, c.payload).order_by(rank, c.s0, c.s1, c.s2, c.key)
    engine = sqlite_engine(folder)
    with engine.begin() as connection:
        connection.execute(sa.delete(PLAN))
        names = ["key", "group", "payload"]
        connection.execute(sa.insert(PLAN).from_select(names, chosen if whole else chosen.where(taken)))
        groups = connection.execute(
            sa.select(PLAN.c.group, sa.func.count(), sa.func.min(PLAN.c.seq)).group_by(PLAN.c.group)
        ).all()
    engine.dispose()
    return sum(group[1] for group in groups)


def sqlite_keys(folder: Path) -> str:
    found = hashlib.sha256()
    engine = sqlite_engine(folder)
    with engine.connect() as connection:
        for some in connection.execute(sa.select(PLAN.c.key).order_by(PLAN.c.seq)).partitions(10_000):
            found.update("\n".join(row[0] for row in some).encode())
    engine.dispose()
    return found.hexdigest()


def sqlite_grid(folder: Path) -> Asked:
    engine = sqlite_engine(folder)
    c = ITEMS.c

    def ask(query: GridQuery) -> int:
        where = []
        if query.filter:
            price, _, stock = query.filter.removeprefix("price < ").partition(" AND stock > ")
            where += [c.price < float(price), c.stock > int(stock)]
        if query.search:
            where.append(c.search.contains(query.search.lower(), autoescape=True))
        stored = {"brand": c.s0, "model": c.s1, "variant": c.s2}
        sort = [stored.get(one.name, c[one.name]) for one in query.sort]
        order = [one.desc() if asked.descending else one for one, asked in zip(sort, query.sort, strict=True)]
        found = sa.select(*(c[name] for name in COLUMNS)).where(*where).order_by(*order, c.key if order else c.row)
        with engine.connect() as connection:
            connection.execute(found.limit(query.limit).offset(query.offset)).all()
            if query.groups:
                counts = sa.select(c.group, sa.func.count()).where(*where).group_by(c.group)
                connection.execute(counts.order_by(sa.func.count().desc())).all()
            total: int = connection.execute(sa.select(sa.func.count()).where(*where).select_from(ITEMS)).scalar_one()
        return total

    return ask


# -- one system in a process of its own

PLANS: dict[str, Callable[..., int]] = {"penstock": penstock_plan, "sqlite": sqlite_plan}
KEYS = {"penstock": penstock_keys, "sqlite": sqlite_keys}
GRIDS = {"penstock": penstock_grid, "sqlite": sqlite_grid}
Told = dict[str, str | int | float]


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def percentile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def asking(ask: Asked, questions: Sequence[GridQuery], *, users: int) -> list[float]:
    """Milliseconds of each question, asked by so many at once."""
    found: list[list[float]] = [[] for _ in range(users)]

    def one(user: int) -> None:
        for query in questions[user::users]:
            found[user].append(timed(lambda query=query: ask(query)) * 1_000)  # type: ignore[misc]

    threads = [threading.Thread(target=one, args=(user,)) for user in range(users)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [value for some in found for value in some]


def child(system: str, what: str, folder: Path, count: int, most: int) -> Told:
    if what.startswith("plan"):
        before = time.process_time()
        seconds = timed(lambda: PLANS[system](folder, whole=what == "plan whole"))
        told: Told = {"seconds": seconds, "cpu_seconds": time.process_time() - before, "peak_mb": peak_mb(os.getpid())}
        return told | {"keys": KEYS[system](folder)}
    ask = GRIDS[system](folder)
    draw = random.Random(7)
    told = {"first page": timed(lambda: ask(question(draw, "page", count))) * 1_000}
    told["open"] = timed(lambda: ask(question(draw, "groups", count))) * 1_000
    cold = [timed(lambda name=name: ask(GridQuery(sort=(SortColumn(name),)))) for name in TEXTS]  # type: ignore[misc]
    told["first sort by a text, worst"] = max(cold) * 1_000
    for kind in KINDS:
        questions = [question(draw, kind, count) for _ in range(most)]
        told[kind] = percentile(asking(ask, questions, users=1), 0.95)
    for users in (1, USERS):
        mixed = [question(draw, draw.choice(KINDS), count) for _ in range(most * (3 if users == 1 else 10))]
        before = time.process_time()
        told[f"mixed, {users} at once"] = percentile(asking(ask, mixed, users=users), 0.95)
        told[f"CPU of a question, {users} at once"] = (time.process_time() - before) / len(mixed) * 1_000
    told["peak_mb"] = peak_mb(os.getpid())
    return told


def alone(system: str, what: str, folder: Path, count: int, most: int = 0) -> Told:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.selection", "--child", system, what, str(folder), str(count), str(most)],
        stdout=subprocess.PIPE,
        check=True,
    )
    told: Told = json.loads(done.stdout)
    return told


def row(system: str, measure: str, items: int, value: float, unit: str, bound: float | None = None) -> report.Row:
    return {
        "system": system,
        "measure": measure,
        "items": items,
        "value": round(value, 3),
        "unit": unit,
        "bound": bound if system == "penstock" else None,
    }


def plans(
    folder: Path, count: int, systems: Sequence[str], *, seconds: float, memory: float, python: Path | None = None
) -> Iterator[report.Row]:
    """python: that has pandas."""
    for what in ("plan", "plan whole"):
        orders = {}
        for system in (*systems, *(["pandas"] if python else [])):
            if system == "pandas" and python:
                told = pandas_plan(python, folder, whole=what == "plan whole", ranks=PINNED + RANKED)
            else:
                told = alone(system, what, folder, count)
            orders[system] = told["keys"]
            yield row(system, what, count, float(told["seconds"]), "s", seconds)
            yield row(system, f"{what}, CPU", count, float(told["cpu_seconds"]), "s")
            yield row(system, f"{what}, peak memory", count, float(told["peak_mb"]), "MB", memory)
        assert len(set(orders.values())) == 1, f"the systems order differently: {orders}"


def grids(folder: Path, count: int, systems: Sequence[str], *, most: int, small: bool) -> Iterator[report.Row]:
    for system in systems:
        told = alone(system, "grid", folder, count, most if system == "penstock" else most // 10)
        for measure, value in told.items():
            unit, bound = ("MB", None if small else PLAN_MB) if measure == "peak_mb" else ("ms", None)
            if measure.startswith("mixed"):
                users = ONE_USER_MS if measure == "mixed, 1 at once" else TEN_USERS_MS
                bound = users if small else None
            elif measure in ("page", "first page"):
                bound = PAGE_MS
            elif measure in KINDS:
                bound = ONE_USER_MS if small else QUESTION_MS
            name = f"grid, {measure}" if measure == "peak_mb" else f"grid, p95 of {measure}"
            once = measure in ("first page", "open") or measure.startswith(("first sort", "CPU"))
            yield row(system, f"grid, {measure}" if once else name, count, float(value), unit, bound)


def main(*, quick: bool = False) -> int:
    words = sys.argv[1:]
    rows: list[report.Row] = []
    large = int(words[words.index("--large") + 1]) if "--large" in words else 0
    python = None if large else pandas_python()
    sizes = [large] if large else [10_000, 50_000] if quick else [100_000, 1_000_000]
    for count in sizes:
        with tempfile.TemporaryDirectory(prefix="pen-bench-") as text:
            folder = Path(text)
            write_catalog(folder / "snapshot", count)
            systems = ["penstock"]
            if not large:
                systems.append("sqlite")
                write_sqlite(folder)
            limits = (LARGE_SECONDS, LARGE_MB) if large else (PLAN_SECONDS, PLAN_MB)
            for one in plans(folder, count, systems, seconds=limits[0], memory=limits[1], python=python):
                rows.append(one)
                print("  ", *one.values(), flush=True)
            if large or "--plans" in words:
                continue
            for one in grids(
                folder, count, systems, most=20 if quick else 60 if count < 1_000_000 else 40, small=count < 1_000_000
            ):
                rows.append(one)
                print("  ", *one.values(), flush=True)
    report.write("selection-large" if large else "selection", rows)
    return report.told(report.late(rows), quick=quick)


if __name__ == "__main__":
    if "--child" in sys.argv:
        _, _, name, part, place, size, many = sys.argv
        print(json.dumps(child(name, part, Path(place), int(size), int(many))))
        raise SystemExit(0)
    raise SystemExit(main(quick="--quick" in sys.argv))
