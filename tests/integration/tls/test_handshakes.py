"""Two sides of a call over mutual TLS, in one process: who is refused and in what words, and what changes while calls
run. Both sides are what programs use: their listener's credentials and interceptor, and their channels."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from penstock.client import Endpoints
from penstock.client.connection import Connection
from penstock.runtime.channel import calling, open_channel
from penstock.runtime.errors import PermissionDenied, Unauthenticated, Unavailable
from penstock.runtime.handshakes import explain
from penstock.runtime.interceptors import CallInterceptor
from penstock.runtime.rotating import RotatingChannel
from penstock.runtime.tls import Identity, Proof
from penstock.v1 import planner_pb2, planner_pb2_grpc
from tests.servers.certificates import Authority, mount


class Planner(planner_pb2_grpc.PlannerServiceServicer):
    """Answers reads; a call named `held` waits until it is let go."""

    def __init__(self) -> None:
        self.began = asyncio.Event()
        self.let_go = asyncio.Event()

    async def GetPlan(self, request: planner_pb2.GetPlanRequest, context: Any) -> planner_pb2.Plan:
        if request.plan_id == "held":
            self.began.set()
            await self.let_go.wait()
        return planner_pb2.Plan(plan_id=request.plan_id)

    async def ExportPlan(
        self, request: planner_pb2.ExportPlanRequest, context: Any
    ) -> AsyncIterator[planner_pb2.PlanFilePart]:
        yield planner_pb2.PlanFilePart(chunk=b"first")
        await self.let_go.wait()
        yield planner_pb2.PlanFilePart(chunk=b"last")


@dataclass(frozen=True)
class Served:
    address: str
    planner: Planner
    folder: Path


@asynccontextmanager
async def serving(proof: Proof, folder: Path) -> AsyncIterator[Served]:
    server = grpc.aio.server(interceptors=[CallInterceptor(proof)])
    planner = Planner()  # type: ignore[abstract]  # the others are not implemented, and say so
    planner_pb2_grpc.add_PlannerServiceServicer_to_server(planner, server)
    if isinstance(proof, Identity):
        port = server.add_secure_port("127.0.0.1:0", proof.server_credentials())
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield Served(f"127.0.0.1:{port}", planner, folder)
    finally:
        planner.let_go.set()
        await server.stop(None)


@pytest.fixture(scope="module")
def ours() -> Authority:
    return Authority("ours")


@pytest.fixture(scope="module")
def theirs() -> Authority:
    return Authority("theirs")


@pytest.fixture
async def served(tmp_path: Path, ours: Authority) -> AsyncIterator[Served]:
    folder = mount(tmp_path / "planner", ours.leaf("penstock-planner"), ours)
    async with serving(Identity(folder), folder) as one:
        yield one


async def ask(address: str, proof: Proof, *, service: str = "planner", plan: str = "p") -> str:
    channel = open_channel(address, proof, service=service)
    try:
        with calling():
            plan_id: str = (
                await planner_pb2_grpc.PlannerServiceStub(channel).GetPlan(planner_pb2.GetPlanRequest(plan_id=plan))
            ).plan_id
            return plan_id
    finally:
        await channel.close()


def gateway(
    tmp_path: Path, by: Authority, *trusted: Authority, name: str = "penstock-gateway", days: float = 30.0
) -> Identity:
    return Identity(mount(tmp_path / "caller", by.leaf(name, days=days), *trusted))


async def refusal(address: str, proof: Proof, **more: str) -> str:
    with pytest.raises(Unavailable) as error:
        await ask(address, proof, **more)
    return error.value.message


async def test_a_caller_that_may_is_answered(served: Served, tmp_path: Path, ours: Authority) -> None:
    assert await ask(served.address, gateway(tmp_path, ours, ours)) == "p"


async def test_a_caller_that_may_not_is_told_who_may(served: Served, tmp_path: Path, ours: Authority) -> None:
    with pytest.raises(PermissionDenied) as error:
        await ask(served.address, gateway(tmp_path, ours, ours, name="penstock-worker"))
    assert error.value.message == (
        "penstock-worker may not call penstock.v1.PlannerService/GetPlan: penstock-gateway, penstock-client may"
    )
    assert error.value.code == "caller_not_allowed"


async def test_a_certificate_of_nobody_s_is_refused(served: Served, tmp_path: Path, ours: Authority) -> None:
    with pytest.raises(Unauthenticated, match=r"its DNS names \(example\.org\) have none of penstock-planner"):
        await ask(served.address, gateway(tmp_path, ours, ours, name="example.org"))


async def test_a_service_of_an_unknown_authority_is_not_called(
    served: Served, tmp_path: Path, ours: Authority, theirs: Authority
) -> None:
    told = await refusal(served.address, gateway(tmp_path, ours, theirs))
    assert told == (
        f"the planner at {served.address} can't be called over mutual TLS: its certificate is signed by CN=ours, and "
        f"{tmp_path / 'caller' / 'ca.crt'} has no such authority"
    )


async def test_a_caller_of_an_unknown_authority_is_told_so(
    served: Served, tmp_path: Path, ours: Authority, theirs: Authority
) -> None:
    told = await refusal(served.address, gateway(tmp_path, theirs, ours))
    assert told == (
        f"the planner at {served.address} can't be called over mutual TLS: it refuses "
        f"{tmp_path / 'caller' / 'tls.crt'}: most likely its ca.crt does not have the authority CN=theirs, or its "
        "clock is wrong"
    )


async def test_a_caller_whose_certificate_has_ended_is_told_since_when(
    served: Served, tmp_path: Path, ours: Authority
) -> None:
    identity = gateway(tmp_path, ours, ours, days=-1)
    told = await refusal(served.address, identity)
    assert f"the certificate {tmp_path / 'caller' / 'tls.crt'} ended on 20" in told


async def test_a_service_whose_certificate_has_ended_is_told_of(tmp_path: Path, ours: Authority) -> None:
    folder = mount(tmp_path / "planner", ours.leaf("penstock-planner", days=-1), ours)
    async with serving(Identity(folder), folder) as served:
        told = await refusal(served.address, gateway(tmp_path, ours, ours))
    assert f"the planner at {served.address} can't be called over mutual TLS: its certificate ended on 20" in told


async def test_another_service_at_the_address_is_not_called(served: Served, tmp_path: Path, ours: Authority) -> None:
    told = await refusal(served.address, gateway(tmp_path, ours, ours), service="analyzer")
    assert "its certificate is another's: its DNS names (penstock-planner) have no penstock-analyzer" in told


async def test_a_service_without_tls_is_told_of(tmp_path: Path, ours: Authority) -> None:
    async with serving("token", tmp_path) as served:
        told = await refusal(served.address, gateway(tmp_path, ours, ours))
    assert "it answers without TLS: tls.folder is set here and not there" in told


async def test_a_caller_without_a_certificate_gets_nothing(served: Served, tmp_path: Path, ours: Authority) -> None:
    with pytest.raises(Unavailable, match="may ask for mutual TLS: PENSTOCK_TLS__FOLDER would be wanting here"):
        await ask(served.address, "token")
    alone = grpc.ssl_channel_credentials(ours.pem)
    options = [("grpc.ssl_target_name_override", "penstock-planner")]
    async with grpc.aio.secure_channel(served.address, alone, options=options) as channel:
        stub = planner_pb2_grpc.PlannerServiceStub(channel)
        with pytest.raises(Unavailable), calling():
            await stub.GetPlan(planner_pb2.GetPlanRequest(plan_id="p"), timeout=10)


async def test_a_client_s_retries_do_not_hide_the_reason(
    served: Served, tmp_path: Path, ours: Authority, theirs: Authority
) -> None:
    identity = gateway(tmp_path, ours, theirs, name="penstock-client")
    where = Endpoints(served.address, served.address, served.address, identity=identity)
    connection = Connection(where, retry_seconds=0.3)
    with pytest.raises(Unavailable, match="is signed by CN=ours, and"):
        await connection.read(lambda: connection.planner.GetPlan(planner_pb2.GetPlanRequest(plan_id="p")))
    await connection.close()


async def test_where_all_is_well_there_is_nothing_to_explain(served: Served, tmp_path: Path, ours: Authority) -> None:
    identity = gateway(tmp_path, ours, ours)
    assert await asyncio.to_thread(explain, served.address, identity, "planner") == ""


async def test_a_service_that_is_away_is_told_as_before(tmp_path: Path, ours: Authority) -> None:
    told = await refusal("127.0.0.1:9", gateway(tmp_path, ours, ours))
    assert told.startswith("failed to connect")


async def test_a_new_authority_comes_in_three_steps_while_calls_go_on_and_none_fails(
    served: Served, tmp_path: Path, ours: Authority
) -> None:
    new = Authority("new")
    caller = tmp_path / "caller"
    mount(caller, ours.leaf("penstock-gateway"), ours)
    identity = Identity(caller, monotonic=iter(range(10**9)).__next__)  # each call looks
    channel = open_channel(served.address, identity, service="planner")
    assert isinstance(channel, RotatingChannel)
    stub = planner_pb2_grpc.PlannerServiceStub(channel)
    held = asyncio.ensure_future(stub.GetPlan(planner_pb2.GetPlanRequest(plan_id="held")))
    parts = stub.ExportPlan(planner_pb2.ExportPlanRequest(plan_id="p"))
    read = aiter(parts)
    assert (await anext(read)).chunk == b"first"
    await served.planner.began.wait()

    async def calls() -> None:
        for _ in range(20):
            await stub.GetPlan(planner_pb2.GetPlanRequest(plan_id="p"))

    channels = {channel.now()}
    for signer, trusted in ((ours, (ours, new)), (new, (ours, new)), (new, (new,))):
        for folder, name in ((served.folder, "penstock-planner"), (caller, "penstock-gateway")):
            before = asyncio.create_task(calls())
            await asyncio.sleep(0)
            mount(folder, signer.leaf(name), *trusted)
            await asyncio.gather(before, calls())
            channels.add(channel.now())
    assert len(channels) == 4, "each step made the caller a channel of its own"
    assert not held.done()
    served.planner.let_go.set()
    assert (await held).plan_id == "held", "a call under way ends on the channel that it began on"
    assert (await anext(read)).chunk == b"last"
    await channel.close()
    with pytest.raises(Unavailable):
        await ask(served.address, Identity(mount(tmp_path / "old", ours.leaf("penstock-gateway"), ours, new)))


async def test_an_old_channel_goes_when_its_calls_have_ended(
    served: Served, tmp_path: Path, ours: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.runtime.rotating.SETTLE_SECONDS", 0.0)
    caller = mount(tmp_path / "caller", ours.leaf("penstock-gateway"), ours)
    identity = Identity(caller, monotonic=iter(range(10**9)).__next__)
    channel = open_channel(served.address, identity, service="planner")
    assert isinstance(channel, RotatingChannel)
    stub = planner_pb2_grpc.PlannerServiceStub(channel)
    held = asyncio.ensure_future(stub.GetPlan(planner_pb2.GetPlanRequest(plan_id="held")))
    await served.planner.began.wait()
    mount(caller, ours.leaf("penstock-gateway"), ours)
    await stub.GetPlan(planner_pb2.GetPlanRequest(plan_id="p"))
    (letting_go,) = channel._retired.values()
    served.planner.let_go.set()
    await held
    await asyncio.wait_for(letting_go, 20)
    assert not channel._retired
    await channel.close()
