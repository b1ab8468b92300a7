"""What the cluster refuses, or can't do, is told with advice, and stops the storm; what is mended goes on by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from penstock.v1 import workers_pb2 as pb
from penstock.v1 import workers_pb2_grpc
from scheduler.backends.kubernetes.api import Api
from scheduler.backends.kubernetes.view import View
from tests.cluster.control_plane.pod_bed import PodBed
from tests.cluster.control_plane.sampling import Sampler
from tests.cluster.programs.control_plane import ControlPlane
from tests.integration.backends.bed import MOST, SLOTS, until

MANY = 10 * MOST * SLOTS


@pytest.fixture
async def bed(tmp_path: Path, redis_url: str, sqlite_url: str, control_plane: ControlPlane) -> AsyncIterator[PodBed]:
    """Its pods run nothing: they only say so."""
    one = PodBed(tmp_path, control_plane, runs=False)
    await one.start(redis_url, sqlite_url)
    yield one
    await one.stop()


async def default_class(bed: PodBed) -> pb.WorkerClass:
    stub = workers_pb2_grpc.WorkerServiceStub(bed.world.channel())
    answer = await stub.ListClasses(pb.ListClassesRequest(), timeout=10)
    return next(one for one in answer.classes if one.name == "default")


async def until_trouble(bed: PodBed, code: str) -> pb.WorkerClass:
    async def there() -> pb.WorkerClass | None:
        found = await default_class(bed)
        return found if found.trouble == code else None

    found: pb.WorkerClass = await until(f"trouble {code!r}", there)
    return found


async def until_living(bed: PodBed, count: int, *, seconds: float = 40.0) -> None:
    async def there() -> bool:
        return await bed.living() == count

    await until(f"{count} pods", there, seconds=seconds)


def quota(bed: PodBed, pods: int) -> None:
    bed.control_plane.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "cap", "namespace": bed.namespace},
            "spec": {"hard": {"pods": str(pods)}},
        }
    )


async def test_a_quota_that_is_used_up_is_told_and_asked_seldom_and_more_room_is_used(bed: PodBed) -> None:
    quota(bed, 1)
    await asyncio.sleep(0.5)  # the quota controller counts before it holds
    run_id = await bed.world.run(MANY, concurrency=MANY)
    trouble = await until_trouble(bed, "quota")
    assert "quota" in trouble.text
    assert "raise the quota" in trouble.advice
    assert await bed.living() <= 1
    (event,) = await bed.world.events(run_id, "workers.short")
    assert "raise the quota" in event.reason
    user = f"scheduler-{bed.namespace}"
    calls = [
        call for call in bed.control_plane.audited() if call["user"]["username"] == user and call["verb"] == "create"
    ]
    assert len(calls) <= 12, "refusals stop the storm"
    quota(bed, 9)
    await until_living(bed, MOST, seconds=60)
    await until_trouble(bed, "")
    assert await bed.world.events(run_id, "workers.back")


async def test_what_admission_refuses_is_told_by_its_own_words(bed: PodBed) -> None:
    rule = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": f"images-{bed.namespace}"},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
                ]
            },
            "validations": [
                {"expression": "object.spec.containers.all(c, c.image == 'right')", "message": "images are right"}
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": f"images-{bed.namespace}"},
        "spec": {
            "policyName": f"images-{bed.namespace}",
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bed.namespace}}},
        },
    }
    bed.control_plane.apply(rule, binding)
    await asyncio.sleep(2)  # the API server learns of policies after a moment
    await bed.world.run(MANY, concurrency=MANY)
    trouble = await until_trouble(bed, "admission")
    assert "images are right" in trouble.text
    assert "worker.classes" in trouble.advice
    bed.write_classes({"image": "right"})
    await until_living(bed, MOST, seconds=60)


async def test_an_image_that_is_not_there_is_told_and_one_pod_finds_out_when_it_is(bed: PodBed) -> None:
    waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
    stuck: dict[str, Any] = {
        "phase": "Pending",
        "containerStatuses": [
            {
                "name": "worker", "image": "localhost/none:9", "imageID": "", "ready": False, "restartCount": 0,
                "state": {"waiting": waiting},
            }
        ],
    }  # fmt: skip
    bed.kubelet.fates = {f"pen-default-{slot}": stuck for slot in range(MOST)}
    await bed.world.run(MANY, concurrency=MANY)
    trouble = await until_trouble(bed, "image")
    assert "localhost/none:9" in trouble.text
    assert "check the class's image" in trouble.advice


async def test_a_new_template_takes_over_and_a_limit_of_zero_drains_the_class(bed: PodBed) -> None:
    await bed.world.run(MANY, concurrency=MANY)
    await until_living(bed, MOST)
    with Sampler(bed.control_plane, bed.namespace, MOST) as samples:
        bed.write_classes({"image": "localhost/penstock:2"})

        async def renewed() -> bool:
            images = [pod["spec"]["containers"][0]["image"] for pod in bed.live()]  # type: ignore[index]
            return images == ["localhost/penstock:2"] * MOST

        await until("all of the new template", renewed)
        bed.write_classes({"max": 0})
        await until_living(bed, 0)
    assert samples.most <= MOST


async def test_a_pod_that_a_drain_of_its_node_takes_is_evicted_and_another_takes_its_place(bed: PodBed) -> None:
    await bed.world.run(MANY, concurrency=MANY)
    await until_living(bed, MOST)
    name = "pen-default-1"

    async def running() -> str | None:
        """Its uid: a pod that no node has begun is not evicted but removed."""
        for pod in bed.live():
            if pod["metadata"]["name"] == name and pod["status"].get("phase") == "Running":  # type: ignore[index, attr-defined]
                return str(pod["metadata"]["uid"])  # type: ignore[index]
        return None

    uid = await until("it runs", running)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": bed.namespace}}
    with bed.control_plane.client() as client:
        client.post(f"/api/v1/namespaces/{bed.namespace}/pods/{name}/eviction", json=eviction).raise_for_status()
    stub = workers_pb2_grpc.WorkerServiceStub(bed.world.channel())

    async def told() -> pb.Worker | None:
        answer = await stub.ListWorkers(pb.ListWorkersRequest(with_ended=True), timeout=10)
        return next((one for one in answer.workers if one.state == "ended"), None)

    ended: pb.Worker = await until("the evicted one has ended", told)
    assert ended.end_kind == "evicted"
    assert ended.session.startswith(f"{name}-")

    async def replaced() -> bool:
        uids = {pod["metadata"]["uid"] for pod in bed.live()}  # type: ignore[index]
        return len(uids) == MOST and uid not in uids

    await until("another has its place", replaced)


async def test_a_watch_that_is_too_old_begins_with_a_list_again(bed: PodBed) -> None:
    class Forgetful(Api):
        lists = 0

        def list_pods(self, selector: str) -> dict[str, Any]:
            self.lists += 1
            answer = super().list_pods(selector)
            if self.lists == 1:
                answer["metadata"]["resourceVersion"] = "1"
            return answer

    await bed.world.run(MANY, concurrency=MANY)
    await until_living(bed, MOST)
    with bed.control_plane.client() as client:  # etcd forgets what was before
        client.get("/readyz").raise_for_status()
    loop = asyncio.get_running_loop()
    api = Forgetful(bed.namespace, bed.kubeconfig)
    view = View(api, "app.kubernetes.io/instance=pen", monotonic=loop.time)
    view.start()

    async def again() -> bool:
        return view.fresh and len(view.pods) == MOST

    await until("the view is right", again)
    view.stop()
    api.close()
