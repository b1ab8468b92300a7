"""The same inputs are the same plan on every machine: hash seed, time zone, locale, formats and threads play no part.

Each machine is a process with an empty planner of its own. It registers the same rows, in a format of its own, makes
thirty plans of them, and prints every id with the order that it stands for.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import duckdb
import grpc

from penstock.runtime.channel import calling, open_channel
from penstock.runtime.errors import PenstockError
from penstock.runtime.interceptors import CallInterceptor
from penstock.runtime.settings import PlannerSection, Settings
from penstock.v1 import planner_pb2, planner_pb2_grpc
from planner.__main__ import build
from tests.integration.planner.conftest import FakeClock
from tests.integration.planner.table_files import packed_rows
from tests.integration.planner.test_run_order import drawn_request, drawn_rows

PLANS = 30
MACHINES = (
    {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C", "FORM": "jsonl"},
    {"PYTHONHASHSEED": "1", "TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "FORM": "csv"},
    {"PYTHONHASHSEED": "4242", "TZ": "America/St_Johns", "LC_ALL": "POSIX", "FORM": "parquet", "PYTHONUTF8": "0"},
)


def rows() -> list[dict[str, Any]]:
    drawn = drawn_rows(random.Random(5))
    return [{**row, "seen": f"2024-03-31T0{n % 3 + 1}:30:00+01:00", "day": "2024-02-29"} for n, row in enumerate(drawn)]


def sent(form: str) -> tuple[str, bytes]:
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows())
    if form == "jsonl":
        return "odd.jsonl.gz", gzip.compress(lines)
    if form == "csv":
        said = [
            {name: str(cell).lower() if type(cell) is bool else cell for name, cell in row.items()} for row in rows()
        ]
        return "odd.csv", packed_rows(list(said[0]), said, end="\r\n")
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        source, place = Path(folder) / "rows.jsonl", Path(folder) / "rows.parquet"
        source.write_bytes(lines)
        connection.execute(
            f"COPY (SELECT * REPLACE (seen::VARCHAR AS seen) FROM read_json('{source}', format = 'newline_delimited', "
            "columns = {id: 'VARCHAR', brand: 'VARCHAR', model: 'VARCHAR', price: 'VARCHAR', sold: 'BOOLEAN', "
            f"seen: 'VARCHAR', day: 'DATE'}})) TO '{place}' (FORMAT parquet, ROW_GROUP_SIZE 2048)"
        )
        return "odd.parquet", place.read_bytes()


async def made(folder: Path, form: str) -> list[str]:
    """What a planner in an empty folder makes of the rows: the source's id, then each plan's id and order."""
    settings = Settings(blobs=folder / "blobs", planner=PlannerSection(database_url=f"sqlite:///{folder}/planner.db"))
    service = await build(settings, FakeClock())
    server = grpc.aio.server(interceptors=[CallInterceptor(None)])
    service.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel = open_channel(f"127.0.0.1:{port}", None)
    try:
        return await asked(planner_pb2_grpc.PlannerServiceStub(channel), form)
    finally:
        await channel.close()
        await server.stop(None)
        await service.close()


async def asked(stub: planner_pb2_grpc.PlannerServiceAsyncStub, form: str) -> list[str]:
    def parts() -> Iterable[planner_pb2.CreateSourceRequest]:
        of = planner_pb2.CreateSourceRequest
        name, data = sent(form)
        yield of(header=of.Header(kind=planner_pb2.SOURCE_KIND_CATALOG, name="odd", actor=form))
        yield of(file=of.File(name=name))
        yield of(chunk=data)

    with calling():
        source = await stub.CreateSource(iter(parts()))
    told, draw = [source.source_id], random.Random(9)
    stage = planner_pb2.StageSpec(processor="noop", parameters=b'{"sleep_seconds": 0.5}', concurrency=3)
    for number in range(PLANS):
        selection, ordering = drawn_request(draw, rows())
        request = planner_pb2.CreatePlanRequest(
            source_id="odd",
            stages=[stage],
            selection=selection,
            ordering=ordering,
            name=f"{form} {number}",
            actor=form,
            validate_only=number % 2 == 0,
        )
        try:
            with calling():
                plan = await stub.CreatePlan(request)
        except PenstockError as error:
            told.append(f"{number}: {type(error).__name__}: {error}")
            continue
        read = planner_pb2.ReadPlanItemsRequest(plan_id=plan.plan_id, after_seq=-1, limit=1_000)
        with calling():
            items = (await stub.ReadPlanItems(read)).items
        told.append(f"{plan.plan_id} {json.dumps([[item.key, item.payload.decode()] for item in items])}")
    return told


def test_the_same_inputs_are_the_same_plans_on_every_machine(tmp_path: Path) -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "LC_", "LANG"))
    }
    machines = []
    for number, machine in enumerate(MACHINES):
        (tmp_path / str(number)).mkdir()
        machines.append(
            subprocess.Popen(
                [sys.executable, "-m", __name__, str(tmp_path / str(number)), machine["FORM"]],
                env={**environment, **machine},
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
            )
        )
    told = [json.loads(machine.communicate(timeout=110)[0].splitlines()[-1]) for machine in machines]  # after its log
    assert [machine.returncode for machine in machines] == [0, 0, 0]
    first, *others = told
    assert len(first) == PLANS + 1
    assert len({line for line in first if line.startswith("plan-")}) > PLANS // 2
    for other in others:
        assert other == first


if __name__ == "__main__":
    print(json.dumps(asyncio.run(made(Path(sys.argv[1]), sys.argv[2]))))
