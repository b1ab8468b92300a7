"""Three hundred worker pods: up, counted, idle, in churn and down, and how many calls of the API server that takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.v1 import scheduler_pb2 as pb
from scheduler.backends.kubernetes.backend import KubernetesBackend
from scheduler.domain.pods import Pod
from tests.cluster.control_plane.pod_bed import PodBed
from tests.cluster.control_plane.sampling import Sampler
from tests.cluster.programs.kwok import SIMULATED, SimulatedNodes
from tests.cluster.showing import tell
from tests.integration.backends.bed import until

MOST = 300
UP_SECONDS = 20
COUNTED_SECONDS = 1.0
IDLE_SECONDS = 60
IDLE_CORES = 0.2
CHURNED = 60


@pytest.fixture
async def bed(
    tmp_path: Path, redis_url: str, sqlite_url: str, simulated_nodes: SimulatedNodes
) -> AsyncIterator[PodBed]:
    tolerations = [{"key": key, "value": value, "effect": "NoSchedule"} for key, value in SIMULATED.items()]
    classes = {"max": MOST, "slots": 1, "node_selector": SIMULATED, "tolerations": tolerations}
    one = PodBed(tmp_path, simulated_nodes.control_plane, runs=False, by_hand=False, classes=classes)
    await one.start(redis_url, sqlite_url)
    yield one
    await one.stop()


def calls(bed: PodBed) -> dict[str, int]:
    """Of the scheduler, by verb and what it was about; watches are left out."""
    found: dict[str, int] = {}
    for call in bed.control_plane.audited():
        if call["user"]["username"] == f"scheduler-{bed.namespace}" and call["verb"] != "watch":
            about = call["objectRef"]
            name = f"{call['verb']} {about['resource']}{'/' + about['subresource'] if about.get('subresource') else ''}"
            found[name] = found.get(name, 0) + 1
    return found


@pytest.mark.timeout(500)
async def test_three_hundred_pods_come_and_are_counted_and_go(bed: PodBed) -> None:
    backend = bed.backend
    assert isinstance(backend, KubernetesBackend)
    view = backend._view

    def ready() -> list[Pod]:
        return [pod for pod in view.pods.values() if pod.live and pod.ready]

    async def counted(count: int, *, seconds: float = 120.0) -> float:
        began = time.monotonic()

        async def there() -> bool:
            return len(view.pods) == count and len(ready()) == count

        await until(f"{count} pods are ready and counted", there, seconds=seconds)
        return time.monotonic() - began

    with Sampler(bed.control_plane, bed.namespace, MOST, "up") as coming:
        run_id = await bed.world.run(2 * MOST, concurrency=2 * MOST)
        up = await counted(MOST)
    before, cpu = calls(bed), time.process_time()
    await asyncio.sleep(IDLE_SECONDS)
    cpu = (time.process_time() - cpu) / IDLE_SECONDS
    idle = sum(calls(bed).values()) - sum(before.values())

    with Sampler(bed.control_plane, bed.namespace, MOST, "churn-and-down") as samples:
        late = []
        with bed.control_plane.client() as client:
            for pod in ready()[:CHURNED]:
                path = f"/api/v1/namespaces/{bed.namespace}/pods/{pod.name}"
                gone = time.monotonic()
                client.request("DELETE", path, json={"gracePeriodSeconds": 0}).raise_for_status()
                while pod.uid in {one.uid for one in view.pods.values()}:  # noqa: ASYNC110 - a thread changes it
                    await asyncio.sleep(0.002)
                late.append(time.monotonic() - gone)
        again = await counted(MOST)
        # The class wants none any more.
        await bed.world.runs.StopRun(pb.StopRunRequest(run_id=run_id), timeout=10)
        down = await counted(0)
    late.sort()
    half, most = late[len(late) // 2], late[len(late) * 99 // 100]
    told = calls(bed)
    made = told.get("create pods", 0)
    a_pod = sum(count for name, count in told.items() if not name.startswith("list")) / made
    tell(
        "worker-pods",
        f"{MOST} pods ready and counted in {up:.1f} s, {CHURNED} replaced in {again:.1f} s, gone in {down:.1f} s; "
        f"idle: {idle} calls in {IDLE_SECONDS} s beside the watch, {cpu:.3f} cores (planner too); a change is "
        f"counted after {half:.3f} s, 99 of 100 within {most:.3f} s; "
        f"{a_pod:.2f} calls a pod: {told}",
    )
    assert max(coming.most, samples.most) <= MOST
    assert up <= UP_SECONDS
    assert most <= COUNTED_SECONDS
    assert idle <= 10 * IDLE_SECONDS / 60
    assert cpu <= IDLE_CORES
    assert a_pod <= 5
