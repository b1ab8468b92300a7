"""Faults in the whole product: whatever happens to workers, node and stores, work goes on, and each item is recorded
once.

Each test runs items on workers of the class `fragile`, does its harm while they are busy, and asks what the operator
reads: the worker's end, its last lines, the items' events. Worker pods are counted each 100 ms; CSV and picture are in
the logs.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from functools import partial
from typing import Any

import pytest

from tests.cluster.faults.crew import SECONDS, Crew, again, kinds, session, signalled
from tests.cluster.node.fragile import FRAGILE, MOST, SLOTS, secret
from tests.cluster.node.product import CLASS_LABEL, Product
from tests.cluster.node.watching import watched
from tests.cluster.programs.control_plane import is_ready
from tests.cluster.programs.daemon import Daemon, wait_until
from tests.cluster.showing import tell

Pod = dict[str, Any]
WORKER = "penstock-worker"
AWAY_SECONDS = 120
BACK_SECONDS = 30
"""After the API server's return the pods are as many as wanted."""


@pytest.fixture
def counted(product: Product) -> Iterator[Product]:
    """Ready, with its worker pods counted meanwhile."""
    product.control_plane.apply(secret(product.workers))
    labels = f"{CLASS_LABEL}={FRAGILE}"
    with watched(product.control_plane, product.workers, name="faults", labels=labels, limit=MOST):
        yield product


def kill(product: Product, pod: Pod) -> None:
    signalled(pod, WORKER, signal.SIGKILL)


def remove(product: Product, pod: Pod) -> None:
    """As somebody does who believes its node lost."""
    name = pod["metadata"]["name"]
    product.control_plane.kubectl("delete", "pod", name, "-n", product.workers, "--grace-period=0", "--force")


def evict(product: Product, pod: Pod) -> None:
    metadata = {"name": pod["metadata"]["name"], "namespace": product.workers}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata}
    path = f"/api/v1/namespaces/{product.workers}/pods/{metadata['name']}/eviction"
    with product.control_plane.client() as api:
        api.post(path, json=eviction).raise_for_status()


@pytest.mark.parametrize(
    ("harm", "kind", "told"),
    [
        (kill, "worker_lost", "exit code 137 (signal 9)"),
        (remove, "worker_lost", "its pod was removed"),
        (evict, "evicted", "it was evicted"),
    ],
    ids=["killed", "removed", "evicted"],
)
def test_a_worker_that_is_taken_away_costs_time_and_nothing_else(
    counted: Product, harm: Callable[[Product, Pod], None], kind: str, told: str
) -> None:
    crew = Crew(counted, items=60)
    crew.wait_progress()
    (pod,) = crew.busy_pods(1)
    harm(counted, pod)
    crew.wait_progress()
    ended = crew.wait_ended(session(pod))
    assert ended["end_kind"] == kind
    assert told in ended["note"]
    items = crew.wait_done()
    lost = crew.lost(session(pod))
    if harm is evict:
        # Told to go, it has finished what it had begun within its grace, and handed back the rest.
        assert not lost
        assert {one["tries"] for one in items} == {0}
    else:
        assert 0 < len(lost) <= SLOTS
        assert set(kinds(lost)) == {kind}
        assert all(told in one["reason"] for one in lost)
        again_done = {one["seq"] for one in items if one["attempt"] > 1}
        assert again_done == {int(one["subject"].rpartition("/")[2]) for one in lost}
    row = crew.listed(session(pod))
    assert f"ended ({kind})" in row
    assert told in row
    tell(f"fault-{harm.__name__}", f"{len(lost)} leases lost; an operator reads: {row.strip()}")
    if harm is not remove:  # with a pod that somebody has removed its log is gone
        assert "takes work" in counted.cli("workers", "logs", session(pod))


def test_a_worker_that_eats_too_much_is_told_apart_and_its_item_ends_elsewhere(counted: Product) -> None:
    crew = Crew(counted, items=60, k9={"eat_mb": 600}, k30={"child_mb": 600})
    ended: list[Pod] = []

    def dead() -> bool:
        ended[:] = [one for one in crew.workers(ended=True) if one["end_kind"] == "out_of_memory"]
        return any(crew.lost(one["session"]) for one in ended)

    wait_until(dead, "a worker has ended for want of memory", seconds=SECONDS)
    items = crew.wait_done()
    losses = [lost for one in ended if (lost := crew.lost(one["session"]))]
    (lost,) = [one for one in losses if "item:0/9" in {event["subject"] for event in one}]
    assert set(kinds(lost)) == {"out_of_memory"}
    assert "it used more memory than its class gives" in lost[0]["reason"]
    assert next(one for one in items if one["key"] == "k9")["attempt"] == 2
    name = lost[0]["data"]["session"]
    row = crew.listed(name)
    assert "ended (out_of_memory)" in row
    tell("fault-out-of-memory", f"{len(lost)} leases lost; an operator reads: {row.strip()}")
    assert "takes work" in counted.cli("workers", "logs", name)
    # Whether the child's end is the container's, too, is the kernel's affair. A worker that has lived through it, and
    # ends when it is told to, has not ended for want of memory.
    told = counted.cli("workers", "drain", "--class", FRAGILE).splitlines()
    assert told
    for row in told:
        end = crew.wait_ended(row.split()[0])
        assert end["end_kind"] is None, end


def test_workers_frozen_past_their_leases_are_refused_when_they_wake(counted: Product) -> None:
    """Two are frozen, and the kubelet is gone, as on a node that hangs. When it is back, the pod of one is deleted
    before it wakes; the other one works on."""
    # Long ones: a worker is to be frozen while it runs some, not between two grants.
    crew = Crew(counted, items=60, seconds=3)
    crew.wait_progress()
    gone, stays = crew.busy_pods(2)
    pids = {session(pod): signalled(pod, WORKER, signal.SIGSTOP) for pod in (gone, stays)}
    kubelet = counted.node.kubelet
    with again(partial(start, kubelet)), again(partial(thaw, pids.values())):
        kubelet.kill()
        crew.wait_progress(SLOTS)
        wait_until(lambda: all(map(crew.lost, pids)), "the leases of both have run out", seconds=SECONDS)
        lost = {name: {one["subject"] for one in crew.lost(name)} for name in pids}

        def done_elsewhere() -> bool:
            items = {f"item:0/{one['seq']}": one for one in counted.items(crew.run_id)}
            return all(items[one]["state"] == "completed" for one in set.union(*lost.values()))

        wait_until(done_elsewhere, "others have done what the frozen ones held", seconds=SECONDS)
        kubelet.start()
        counted.node.wait_ready()
        before = {one["seq"]: one for one in counted.items(crew.run_id) if one["state"] == "completed"}
        counted.control_plane.kubectl("delete", "pod", gone["metadata"]["name"], "-n", counted.workers, "--wait=false")
    # Both wake, and report.
    wait_until(lambda: set(refused(crew)) >= set(pids), "reports of both are refused", seconds=SECONDS)
    late = sum(refused(crew).values())
    tell("fault-frozen", f"{sum(map(len, lost.values()))} leases ran out, {late} late reports were refused")
    crew.wait_ended(session(gone))
    items = {one["seq"]: one for one in crew.wait_done()}
    for seq, one in before.items():
        assert items[seq] == one, "what was recorded stays so"
    later = Crew(counted, items=MOST * SLOTS * 2)
    assert session(stays) in {one["worker"] for one in later.wait_done()}, "the one that came back works on"


def thaw(pids: Collection[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def start(daemon: Daemon) -> None:
    if not daemon.alive():
        daemon.start()


def refused(crew: Crew) -> dict[str, int]:
    """Refused reports by worker."""
    found: dict[str, int] = {}
    for one in crew.product.events(crew.run_id):
        if one["type"] == "report.refused":
            name = str(one["data"].get("session"))
            found[name] = found.get(name, 0) + 1
    return found


@pytest.mark.parametrize("store", ["redis", "postgresql"])
def test_a_store_that_is_restarted_under_a_run_costs_time_alone(counted: Product, store: str) -> None:
    crew = Crew(counted, items=120)
    crew.wait_progress()
    pods = ("get", "pods", "-l", f"app={store}", "-o", "json")
    (before,) = json.loads(counted.kubectl(*pods))["items"]
    deleted = time.monotonic()
    counted.kubectl("delete", "pod", before["metadata"]["name"], "--wait=false")

    def another() -> bool:
        """Only it: never two servers on one folder."""
        found = json.loads(counted.kubectl(*pods))["items"]
        if store == "postgresql":
            assert len(found) <= 1
        return [one["metadata"]["uid"] for one in found] not in ([], [before["metadata"]["uid"]])

    wait_until(another, f"another pod of {store}", seconds=SECONDS)
    counted.stores.wait_ready()
    crew.wait_progress()
    tell(f"fault-{store}", f"work went on {time.monotonic() - deleted:.0f} s after its pod was deleted")
    items = crew.wait_done()
    assert {one["tries"] for one in items} == {0}
    assert not [one for one in counted.events(crew.run_id) if one["type"] == "lease.lost"]


def test_without_the_api_server_work_goes_on_whatever_dies_meanwhile(counted: Product) -> None:
    """Two minutes. In the middle one of two schedulers dies, and no kubelet can be sure to start it again: it may not
    have the Secrets at hand. A worker dies, and nobody makes another."""
    plane, scheduler = counted.control_plane, f"deployment/{counted.release}-scheduler"
    with again(partial(counted.kubectl, "scale", scheduler, "--replicas=1")):
        counted.kubectl("scale", scheduler, "--replicas=2")
        counted.wait_ready()
        schedulers = counted.pods("scheduler")
        assert len(schedulers) == 2
        crew = Crew(counted, items=MOST * SLOTS * 2)
        crew.wait_progress()
        doomed, *_ = crew.busy_pods(2)
        began = time.monotonic()
        with again(partial(start, plane.api_server)):
            plane.api_server.kill()
            crew.wait_done()
            # What an operator reads then: who works, by what they say themselves, and why none is started.
            assert len([one for one in crew.workers() if one["state"] == "working"]) == MOST
            classes = {one["name"]: one for one in counted.get("classes")["classes"]}
            assert classes[FRAGILE]["trouble"] == "api", classes
            for program, pod in (("penstock-scheduler", schedulers[0]), (WORKER, doomed)):
                crew = Crew(counted, items=MOST * SLOTS * 4)
                crew.wait_progress(2)
                signalled(pod, program, signal.SIGKILL)
                crew.wait_done()
            runs = 3
            while time.monotonic() < began + AWAY_SECONDS:
                Crew(counted, items=MOST * SLOTS * 4).wait_done()
                runs += 1
            away = time.monotonic() - began
        plane.wait_ready()
        back = time.time()
        # A server that does not know their rights yet refuses the watches of Kubernetes' own programs, which wait for a
        # minute then, and meanwhile the only node is not ready and no service has a pod: not our affair.
        for daemon in (plane.controller_manager, counted.node.kubelet, counted.node.scheduler):
            daemon.kill()
            daemon.start()
        counted.node.wait_ready()
        first = None
        while not ((other := successor(counted, doomed)) and is_ready(other)):
            first = first or other
            assert time.time() < back + SECONDS, "nobody has the place of the dead worker"
            Crew(counted, items=MOST * SLOTS * 4).wait_done()
        ready = time.time() - back
    told = f"away for {away:.0f} s: {runs} runs began and ended meanwhile"
    made = datetime.fromisoformat((first or other)["metadata"]["creationTimestamp"]).timestamp() - back
    tell(
        "fault-api-server", f"{told}; {made:.0f} s after its return another pod was made, {ready:.0f} s after it works"
    )
    assert made <= BACK_SECONDS
    assert crew.wait_ended(session(doomed))["end_kind"] == "worker_lost"


def successor(product: Product, dead: Pod) -> Pod | None:
    """The pod that has the place of a dead one now."""
    # kube-scheduler ends itself when a name went from one pod to another while it could not look, and counts on being
    # started again.
    start(product.node.scheduler)
    pod = {one["metadata"]["name"]: one for one in product.worker_pods(FRAGILE)}.get(dead["metadata"]["name"])
    return None if pod is None or pod["metadata"]["uid"] == dead["metadata"]["uid"] else pod
