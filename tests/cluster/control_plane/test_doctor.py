"""The scheduler's own part of the doctor, at a real API server: it asks what it may do, by the rights that it has."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.v1 import diagnosis_pb2 as pb
from penstock.v1 import diagnosis_pb2_grpc
from tests.cluster.control_plane.pod_bed import OWNER, PodBed
from tests.cluster.programs.control_plane import ControlPlane


@pytest.fixture
async def bed(tmp_path: Path, redis_url: str, sqlite_url: str, control_plane: ControlPlane) -> AsyncIterator[PodBed]:
    one = PodBed(tmp_path, control_plane, runs=False)
    await one.start(redis_url, sqlite_url)
    yield one
    await one.stop()


async def told(bed: PodBed) -> pb.DiagnoseResponse:
    stub = diagnosis_pb2_grpc.DiagnosisServiceStub(bed.world.channel())
    answer: pb.DiagnoseResponse = await stub.Diagnose(pb.DiagnoseRequest(), timeout=30)
    return answer


def of(rights: pb.DiagnoseResponse, *, wanted: bool, allowed: bool) -> list[str]:
    found = (one for one in rights.rights if (one.wanted, one.allowed) == (wanted, allowed))
    return [f"{one.verb} {one.resource}" for one in found]


def problem(answer: pb.DiagnoseResponse) -> str:
    (found,) = (one.problem for one in answer.dependencies if one.name == "kubernetes")
    return str(found)


async def test_it_may_what_the_role_says_and_asks_by_no_more_rights(bed: PodBed) -> None:
    answer = await told(bed)
    assert problem(answer) == ""
    assert of(answer, wanted=True, allowed=False) == []
    assert of(answer, wanted=False, allowed=True) == []
    assert len(of(answer, wanted=True, allowed=True)) == 7
    assert len(of(answer, wanted=False, allowed=False)) >= 7


async def test_a_verb_that_the_role_lacks_and_one_too_many_are_told(bed: PodBed) -> None:
    verbs = ["create", "get", "list", "watch", "patch"]
    patch = json.dumps([{"op": "replace", "path": "/rules/0/verbs", "value": verbs}])
    bed.control_plane.kubectl("-n", bed.namespace, "patch", "role", "scheduler", "--type=json", "-p", patch)
    answer = await told(bed)
    assert of(answer, wanted=True, allowed=False) == ["delete pods"]
    assert of(answer, wanted=False, allowed=True) == ["patch pods"]


async def test_an_owner_that_is_gone_is_told(bed: PodBed) -> None:
    bed.control_plane.kubectl("-n", bed.namespace, "delete", "configmap", OWNER)
    answer = await told(bed)
    assert f"the ConfigMap {OWNER} in the namespace {bed.namespace} can't be read" in problem(answer)
    assert "not found" in problem(answer)


async def test_an_api_server_that_hangs_takes_no_more_than_its_time(bed: PodBed) -> None:
    bed.control_plane.api_server.freeze()
    try:
        answer = await told(bed)
    finally:
        bed.control_plane.api_server.thaw()
        bed.control_plane.wait_ready()
    assert "not answer" in problem(answer) or "no answer" in problem(answer)
    assert {one.name for one in answer.dependencies if not one.problem} == {"sql", "redis", "blobs"}
