"""All five programs over mutual TLS: a batch runs; each caller that a method is not for is refused by it; certificates
and the authority change under a running batch, and nothing of it fails; kubelets see who lives and who is ready."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from penstock import Client
from penstock.client.resources import StageOptions
from penstock.client.synchronous_runs import RunHandle
from penstock.runtime import callers
from penstock.runtime.channel import calling, open_channel
from penstock.runtime.errors import Unavailable, from_rpc_error
from penstock.runtime.tls import Identity
from penstock.v1 import planner_pb2, planner_pb2_grpc, scheduler_pb2
from tests.servers.certificates import Authority, mount
from tests.servers.secured import PROGRAMS, Secured
from tests.servers.stack import PENSTOCK, until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    one = Secured(tmp_path_factory.mktemp("secured") / "s", Authority("first"))
    try:
        one.start()
        yield one
    finally:
        one.stop()


def started(client: Client, secured: Secured, count: int, **stage: object) -> RunHandle:
    """A run of so many items that do nothing."""
    path = secured.folder / f"items-{count}.jsonl"
    path.write_text("".join(json.dumps({"key": f"k{n}", "payload": {}}) + "\n" for n in range(count)))
    options = StageOptions(processor="noop", **stage)  # type: ignore[arg-type]
    plan = client.plans.create(client.sources.items(path).source_id, stages=[options])
    return client.run(client.runs.start(plan.plan_id, confirm=True))


def test_a_batch_runs_by_way_of_every_program(secured: Secured) -> None:
    """Documents: planner and scheduler call each other, the worker calls scheduler and analyzer."""
    paths = [secured.folder / f"d{n}.txt" for n in range(4)]
    for number, path in enumerate(paths):
        path.write_text(f"The mill took water {number} times. It stood still otherwise, and nobody minded.")
    with Client(endpoints=secured.endpoints()) as client:
        job = client.documents.analyze([str(path) for path in paths])
        status = client.documents.wait(job["run_id"])
        assert status["status"] == "COMPLETED", status
        assert client.documents.collection(job["run_id"]) is not None


def test_the_command_line_finds_its_way_by_the_gateway(secured: Secured) -> None:
    secured.endpoints()
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    command = [*PENSTOCK, "runs", "list", "--json"]

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        environment = bare | {"PENSTOCK_URL": secured.url} | more
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    found = run(PENSTOCK_TLS__FOLDER=str(secured.folder / "tls-client"))
    assert found.returncode == 0, found.stderr
    # As docs/cluster.md has it in a pod of the gateway, with the certificate that is there.
    found = run(PENSTOCK_TLS__FOLDER=str(secured.folder / "tls-gateway"), PENSTOCK_DATA="")
    assert found.returncode == 0, found.stderr
    lacking = run()
    assert lacking.returncode == 2
    assert f"the Penstock at {secured.url} is called over mutual TLS: set PENSTOCK_TLS__FOLDER" in lacking.stderr


def test_the_doctor_tells_the_days_of_every_certificate_and_asks_every_program(secured: Secured) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("PENSTOCK_", "KUBE"))}
    command = [*PENSTOCK, "cluster", "doctor", "--json"]
    environment = bare | {"PENSTOCK_URL": secured.url, "HOME": "/nonexistent"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    told = {one["check"]: one for one in json.loads(done.stdout)}
    programs = [name for name in PROGRAMS if name != "worker"]
    assert {told[name]["level"] for name in programs} == {"ok"}, done.stdout
    for name in programs:
        assert "days left, until" in told[f"{name} certificate"]["text"]


@pytest.mark.parametrize("caller", callers.CALLERS)
async def test_what_is_not_for_a_caller_is_refused_by_every_service(secured: Secured, caller: str) -> None:
    tried = 0
    for service, rules in callers.RULES.items():
        where = secured.endpoints(caller)
        channel = open_channel(secured.address(service), where.proof, service=service)
        for method in (f"/{name}/{one}" for name, methods in rules.items() for one in methods):
            if caller in callers.allowed(method):
                continue
            tried += 1
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await channel.unary_unary(method, bytes, bytes)(b"", timeout=30)
            assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED, (method, error.value.details())
            assert f"penstock-{caller} may not call {method[1:]}" in from_rpc_error(error.value).message
        await channel.close()
    assert tried > 5


def test_a_kubelet_sees_that_all_live_and_are_ready(secured: Secured) -> None:
    assert {name: secured.health(name, "live") for name in PROGRAMS} == dict.fromkeys(PROGRAMS, "SERVING")
    for name in PROGRAMS:  # one whose disk stood still for 3 s is not ready until it looks again
        until(f"{name} is ready", lambda name=name: secured.health(name) == "SERVING")  # type: ignore[misc]
    assert "NOT_FOUND" in secured.health("planner", "other")


def test_certificates_and_the_authority_change_under_a_batch_and_nothing_fails(secured: Secured) -> None:
    old, new = secured.authority, Authority("second")
    assert old is not None
    said = {name: len(secured.log(name)) for name in PROGRAMS}
    taken = {name: secured.renewals(name) for name in PROGRAMS}
    with Client(endpoints=secured.endpoints()) as client:
        run = started(client, secured, 20_000, concurrency=24, parameters={"sleep_seconds": 0.15})

        def completed() -> int:
            return int(run.refresh().counts.completed)

        until("the batch runs", lambda: completed() > 24, seconds=60)
        steps = [(old, (old,)), (old, (old, new)), (new, (old, new)), (new, (new,))]
        for step, (signer, trusted) in enumerate(steps, 1):
            for name in (*PROGRAMS, "client"):
                secured.renew(name, signer, *trusted)
            for name in PROGRAMS:
                want = taken[name] + step
                until(f"{name} takes what is new", partial(_renewed, secured, name, want), seconds=60)
            before = completed()
            until("the batch goes on", partial(_more, completed, before + 24), seconds=60)
        secured.authority = new
        assert run.refresh().state == scheduler_pb2.RUN_STATE_RUNNING, "the batch was too short for this test"
        run.stop()
        ended = run.wait()
        assert ended.counts.failed == 0
        assert all(item.attempt == 1 for item in run.items(states=["completed"])), "an item was executed twice"
    bad = [line for name in PROGRAMS for line in secured.log(name)[said[name] :] if _bad(line)]
    assert not bad, "\n".join(bad)


def _renewed(secured: Secured, name: str, times: int) -> bool:
    return secured.renewals(name) == times


def _more(completed: Callable[[], int], than: int) -> bool:
    return completed() > than


def _bad(line: str) -> bool:
    """gRPC's own words are no JSON. A machine that stood still for seconds is no matter of certificates."""
    if not line.startswith("{"):
        return "Handshake failed" in line
    told = json.loads(line)
    stood = told["event"].startswith("nobody served for a while") or told.get("error") == "no answer in 3 s"
    return told["level"] in ("warning", "error") and not stood


async def test_who_has_a_certificate_of_an_authority_that_is_gone_is_refused(secured: Secured, tmp_path: Path) -> None:
    assert secured.authority is not None
    gone = Identity(mount(tmp_path / "gone", Authority("gone").leaf("penstock-client"), secured.authority))
    channel = open_channel(secured.address("planner"), gone, service="planner")
    with pytest.raises(Unavailable, match="does not have the authority CN=gone"), calling():
        await planner_pb2_grpc.PlannerServiceStub(channel).ListPlans(planner_pb2.ListPlansRequest())
    await channel.close()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Secured]:
    """A planner that is not started yet."""
    one = Secured(tmp_path / "alone", Authority("alone"), programs=("planner",))
    yield one
    one.stop()


def test_a_program_whose_certificate_has_ended_says_so_and_waits_for_another(alone: Secured) -> None:
    authority, planner = alone.authority, alone.programs["planner"]
    assert authority is not None
    path = mount(alone.folder / "tls-planner", authority.leaf("penstock-planner", days=-1), authority) / "tls.crt"
    planner.start()
    until("it lives", lambda: alone.health("planner", "live") == "SERVING", seconds=60)
    not_ready = "NOT_SERVING: its certificate does not hold at this time"
    until("it says what it waits for", lambda: alone.health("planner") == not_ready, seconds=60)
    assert f"the certificate {path} ended on 20" in planner.tail()
    alone.renew("planner", authority, authority)
    until("it is ready", lambda: alone.health("planner") == "SERVING", seconds=60)


def test_a_program_that_waits_for_its_database_lives_and_is_not_ready(alone: Secured) -> None:
    planner = alone.programs["planner"]
    planner.environment["PENSTOCK_PLANNER__DATABASE_URL"] = "postgresql://nobody@127.0.0.1:9/none"
    planner.start()
    until("it lives", lambda: alone.health("planner", "live") == "SERVING", seconds=60)
    until("it says why", lambda: alone.health("planner").startswith("NOT_SERVING: "), seconds=60)
    assert planner.alive()


@pytest.mark.parametrize("program", ["planner", "gateway", "worker"])
def test_a_program_does_not_start_with_files_that_can_not_be_used(tmp_path: Path, program: str) -> None:
    authority = Authority("alone")
    folder = mount(tmp_path / "tls", authority.leaf(f"penstock-{program}"), authority)
    (folder / "tls.key").unlink()
    ended = _ended(program, folder)
    assert ended.returncode == 2
    assert ended.stderr == f"penstock {program}: tls.folder can't be used:\n  {folder / 'tls.key'} is missing\n"


def test_a_worker_whose_certificate_has_ended_says_so_and_ends(tmp_path: Path) -> None:
    """Its pod is not started again under the same name: whoever starts workers reads why."""
    authority = Authority("alone")
    folder = mount(tmp_path / "tls", authority.leaf("penstock-worker", days=-1), authority)
    ended = _ended("worker", folder)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"penstock worker: the certificate {folder / 'tls.crt'} ended on 20")


def _ended(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")} | {
        "PENSTOCK_TLS__FOLDER": str(folder),
        "PENSTOCK_BLOBS": str(folder.parent / "blobs"),
        **{f"PENSTOCK_{name}_ADDRESS": "127.0.0.1:9" for name in ("PLANNER", "SCHEDULER", "ANALYZER")},
    }
    command = [sys.executable, "-P", "-m", program]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
