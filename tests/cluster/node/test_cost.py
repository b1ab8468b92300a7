"""What the product costs where it runs: memory of its five programs idle, an idle scheduler, a short item on a pod."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.box.place import Place
from tests.cluster.node.product import CLASS, DEPLOYMENTS, READY_SECONDS, SINGLE, SLOTS, Product
from tests.cluster.node.runs import Runs
from tests.cluster.programs.daemon import wait_until
from tests.cluster.showing import tell

MOST_BYTES = 700_000_000
MOST_IDLE_CORES = 0.2
IDLE_SECONDS = 5.0
ITEMS, ITEM_SECONDS = 25 * SLOTS, 0.1
MOST_OVERHEAD = 0.25
FEWEST_PAIRS, MOST_PAIRS = 3, 8
SLEEP = {"sleep_seconds": ITEM_SECONDS}


def processes(pod: dict[str, Any]) -> list[int]:
    """Those of a pod's own containers, by their cgroup."""
    uid, found = pod["metadata"]["uid"], []
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if f"pod{uid}" in path.read_text() and b"penstock" in (path.parent / "cmdline").read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def kilobytes(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1])


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def working_set(pod: dict[str, Any], place: Place) -> int:
    """As `kubectl top` counts it: what its cgroup uses, without file pages that are idle."""
    (folder,) = Path("/sys/fs/cgroup/memory", place.cgroup).rglob(f"pod{pod['metadata']['uid']}")
    told = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    return int((folder / "memory.usage_in_bytes").read_text()) - int(told["total_inactive_file"])


def test_all_five_programs_idle_take_less_than_700_mb(product: Product) -> None:
    product.wait(product.start([{"key": "one"}]))
    programs = {name: product.pods(name)[0] for name in DEPLOYMENTS}
    programs["worker"] = product.worker_pods()[0]
    rows = {}
    for name, pod in programs.items():
        pids = processes(pod)
        assert pids, name
        parts = [sum(kilobytes(pid, which) for pid in pids) * 1024 for which in ("Pss", "Rss")]
        rows[name] = [working_set(pod, product.control_plane.place), *parts]
    rows["together"] = [sum(row[place] for row in rows.values()) for place in range(3)]
    lines = [f"{name:10}" + "".join(f"{part / 1e6:10.0f}" for part in row) for name, row in rows.items()]
    tell("memory-idle", "\n".join([f"{'MB':10}{'as top':>10}{'shares':>10}{'resident':>10}", *lines]))
    whole = rows["together"]
    assert max(whole[0], whole[1]) <= MOST_BYTES, lines


def test_an_idle_scheduler_takes_next_to_no_processor(product: Product) -> None:
    pids = processes(product.pods("scheduler")[0])
    before, began = cpu_seconds(pids), time.monotonic()
    time.sleep(IDLE_SECONDS)
    cores = (cpu_seconds(pids) - before) / (time.monotonic() - began)
    tell("scheduler-idle", f"{cores:.3f} of a core over {IDLE_SECONDS:g} s")
    assert cores <= MOST_IDLE_CORES


def test_short_items_on_a_worker_pod_take_hardly_longer_than_on_a_local_process(
    product: Product, tmp_path: Path
) -> None:
    """Taken in turns, the best of each counts: what else the machine does then hits both."""
    items = [{"key": f"item-{number}"} for number in range(ITEMS)]

    def taken(where: Runs, worker_class: str) -> float:
        run_id = where.start(items, worker_class=worker_class, concurrency=SLOTS, parameters=SLEEP)
        where.wait(run_id)
        return span(where.items(run_id))

    with local(tmp_path) as beside:
        # The first of each waits for its worker.
        taken(product, SINGLE)
        taken(beside, CLASS)
        assert len(product.worker_pods(SINGLE)) == 1
        pods: list[float] = []
        processes_: list[float] = []
        while len(pods) < MOST_PAIRS and (len(pods) < FEWEST_PAIRS or overhead(pods, processes_) > MOST_OVERHEAD):
            pods.append(taken(product, SINGLE))
            processes_.append(taken(beside, CLASS))
    told = f"{min(pods):.2f} s on one worker pod, {min(processes_):.2f} s on one local process"
    share = overhead(pods, processes_)
    tell("overhead", f"{ITEMS} items of {ITEM_SECONDS:g} s, {SLOTS} slots: {told}: {share:+.0%}")
    assert share <= MOST_OVERHEAD, (pods, processes_)


def overhead(pods: list[float], others: list[float]) -> float:
    return min(pods) / min(others) - 1


def span(items: list[dict[str, Any]]) -> float:
    """Seconds from the first start to the last end."""
    assert {one["state"] for one in items} == {"completed"}
    starts = [datetime.fromisoformat(one["start_time"]) for one in items]
    ends = [datetime.fromisoformat(one["end_time"]) for one in items]
    return (max(ends) - min(starts)).total_seconds()


@contextmanager
def local(folder: Path) -> Iterator[Runs]:
    """`penstock up` with one worker process of as many slots."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    environment["PENSTOCK_WORKER__SLOTS"] = str(SLOTS)
    program = Path(sys.executable).with_name("penstock")
    log = folder / "up.log"
    with log.open("wb") as file:
        command = [str(program), "up", "--data", str(folder / "data"), "--workers", "1"]
        up = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environment)
    try:
        wait_until(lambda: "ready http" in log.read_text(), "penstock up is ready", seconds=READY_SECONDS)
        url = log.read_text().partition("ready http")[2].split()[0]
        with httpx.Client(base_url=f"http{url}", timeout=60, trust_env=False) as http:
            yield Runs(http)
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(60)
