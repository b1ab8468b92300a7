"""Redis by every way in: password, TLS, Sentinel. What is set wrongly is one sentence without a secret; a master that
dies under a running batch costs time and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.settings import load
from penstock.v1 import scheduler_pb2 as pb
from scheduler.ready import Ready
from tests.integration.scheduler.world import World, completed
from tests.integration.stores.test_failover import work
from tests.servers.certificates import Authority, mount
from tests.servers.debian import debian_program
from tests.servers.ports import free_port
from tests.servers.redis_tcp import TcpRedis

SECRET = "s3cret-of-redis"
SECONDS = 60.0


async def problem(url: str, ca_file: Path | None = None) -> Unavailable:
    ready = Ready(url, "test", ca_file=ca_file)
    try:
        with pytest.raises(Unavailable) as caught:
            await ready.check()
    finally:
        await ready.close()
    assert SECRET not in caught.value.message
    assert "\n" not in caught.value.message
    return caught.value


async def a_batch_runs(folder: Path, url: str, ca_file: Path | None = None) -> None:
    world = await World.start(
        folder, url, f"sqlite:///{folder}/scheduler.db", redis_ca_file=ca_file, lease_term_seconds=30.0
    )
    try:
        run_id, recorded = await world.run(60), Counter[int]()
        await work(world, world.worker(), run_id, recorded, 60)
        assert recorded == Counter(range(60))
        world.check()
    finally:
        await world.stop()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpRedis]:
    server = TcpRedis(tmp_path_factory.mktemp("redis") / "data", ["--requirepass", SECRET])
    server.ask("AUTH", SECRET)
    yield server
    server.stop()


async def test_with_a_password_a_batch_runs(locked: TcpRedis, tmp_path: Path) -> None:
    await a_batch_runs(tmp_path, f"redis://:{SECRET}@127.0.0.1:{locked.port}/0")


async def test_a_user_with_the_rights_of_its_prefix_alone_runs_a_batch(tmp_path: Path) -> None:
    rights = ["on", f">{SECRET}", "~penstock:*", "resetchannels", "&penstock:*", "+@all"]
    server = TcpRedis(tmp_path / "redis", ["--user", "pen", *rights])
    try:
        await a_batch_runs(tmp_path, f"redis://pen:{SECRET}@127.0.0.1:{server.port}/0")
    finally:
        server.stop()


async def test_a_user_without_the_rights_is_told_so(tmp_path: Path) -> None:
    rights = ["on", f">{SECRET}", "~others:*", "+@all"]
    server = TcpRedis(tmp_path / "redis", ["--user", "pen", *rights])
    try:
        told = await problem(f"redis://pen:{SECRET}@127.0.0.1:{server.port}/0")
        assert told.message == "Redis's user may not do what is needed (its ACL)"
    finally:
        server.stop()


@pytest.mark.parametrize("user", ["", f":{SECRET[::-1]}@", f"nobody:{SECRET}@"], ids=["none", "wrong", "foreign user"])
async def test_a_password_that_is_refused_is_said(locked: TcpRedis, user: str) -> None:
    told = await problem(f"redis://{user}127.0.0.1:{locked.port}/0")
    assert told.message == told.cause == "Redis refuses user or password (redis_url)"


async def test_a_server_that_is_away_is_said() -> None:
    told = await problem(f"redis://:{SECRET}@127.0.0.1:{free_port()}/0")
    assert told.cause == "Redis does not answer"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a server on loopback, with the CA that signed it."""
    authority = Authority("redis")
    return mount(tmp_path_factory.mktemp("certificates"), authority.leaf("127.0.0.1", "localhost"), authority)


@pytest.fixture(scope="module")
def secure(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpRedis]:
    found = debian_program("redis")
    if isinstance(found, str):
        if os.environ.get("PEN_CI"):
            pytest.fail(found)
        pytest.skip(found)
    folder = tmp_path_factory.mktemp("secure") / "data"
    server = TcpRedis(folder, ["--requirepass", SECRET], program=found, tls=certificates)
    yield server
    server.stop()


async def test_with_tls_and_a_password_a_batch_runs(secure: TcpRedis, certificates: Path, tmp_path: Path) -> None:
    await a_batch_runs(tmp_path, f"rediss://:{SECRET}@127.0.0.1:{secure.port}/0", certificates / "ca.crt")


async def test_a_certificate_that_is_not_trusted_is_said(secure: TcpRedis, tmp_path: Path) -> None:
    url = f"rediss://:{SECRET}@127.0.0.1:{secure.port}/0"
    other = tmp_path / "other.crt"
    other.write_bytes(Authority("other").pem)
    for ca_file in (other, None):
        told = await problem(url, ca_file)
        assert told.message == "Redis's certificate is not trusted, or of another host (redis_ca_file)"


async def test_tls_where_there_is_none_and_none_where_there_is_tls(
    secure: TcpRedis, locked: TcpRedis, certificates: Path
) -> None:
    for url in (f"rediss://:{SECRET}@127.0.0.1:{locked.port}/0", f"redis://:{SECRET}@127.0.0.1:{secure.port}/0"):
        assert (await problem(url, certificates / "ca.crt")).cause == "Redis does not answer"


def test_a_ca_file_that_is_not_there_ends_the_program(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=f"redis_ca_file {tmp_path}/none: No such file or directory"):
        Ready("rediss://h:1/0", "test", ca_file=tmp_path / "none")


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@h/0",
        f"redis://:{SECRET}@h:port/0",
        f"redis+sentinel://:{SECRET}@h:1",
        f"redis+sentinel://:{SECRET}@h:1,/service",
        f"redis+sentinel://:{SECRET}@h:1/service/no",
        f"redis+sentinel://:{SECRET}@h:1/service?password=x",
    ],
)
def test_a_url_that_is_none_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InvalidInput, match=r"redis_url: .*is redis://host:port/0") as caught:
        load({"PENSTOCK_REDIS_URL": url})
    assert SECRET not in caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a/service",
        "redis+sentinel://u:p%40@a:1,b.example:2/my-service/3?sentinel_password=x",
        "rediss+sentinel://a:1/service",
        "rediss://:p@h:1/0",
    ],
)
def test_a_url_that_is_one_is_taken(url: str) -> None:
    assert load({"PENSTOCK_REDIS_URL": url}).redis_url == url


class Watched:
    """A master, its replica, and three Sentinels that watch them: two must agree."""

    def __init__(self, folder: Path) -> None:
        asked = ["--requirepass", SECRET, "--masterauth", SECRET, "--repl-diskless-sync-delay", "0"]
        self.servers = [TcpRedis(folder / "one", asked)]
        first = self.servers[0].port
        self.servers.append(TcpRedis(folder / "two", [*asked, "--replicaof", "127.0.0.1", str(first)]))
        rules = (
            f"sentinel monitor ours 127.0.0.1 {first} 2\nsentinel auth-pass ours {SECRET}\n"
            "sentinel down-after-milliseconds ours 500\nsentinel failover-timeout ours 4000\n"
        )
        self.sentinels = [TcpRedis(folder / f"s{number}", sentinel_of=rules) for number in range(3)]
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        self.url = f"redis+sentinel://:{SECRET}@{hosts}/ours/0"
        self._until("replica and Sentinels are known", lambda told: "slaves=1,sentinels=3" in told)

    def _until(self, what: str, holds: object) -> None:
        deadline = time.monotonic() + SECONDS
        while not all(holds(one.ask("INFO", "sentinel")) for one in self.sentinels):  # type: ignore[operator]
            assert time.monotonic() < deadline, what
            time.sleep(0.05)

    def stop(self) -> None:
        for one in [*self.sentinels, *self.servers]:
            with contextlib.suppress(OSError):
                one.stop()


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    one = await asyncio.to_thread(Watched, tmp_path / "watched")
    yield one
    await asyncio.to_thread(one.stop)


async def test_a_master_that_dies_under_a_batch_costs_time_and_nothing_else(watched: Watched, tmp_path: Path) -> None:
    items = 300
    world = await World.start(tmp_path, watched.url, f"sqlite:///{tmp_path}/scheduler.db", lease_term_seconds=30.0)
    try:
        run_id, recorded = await world.run(items), Counter[int]()
        holder = world.worker("holder")
        held = await holder.leases(5)
        assert len(held) == 5
        worker = world.worker()
        await work(world, worker, run_id, recorded, items // 3)
        going = asyncio.create_task(work(world, worker, run_id, recorded, items - len(held)))
        await asyncio.to_thread(watched.servers[0].kill)
        await going
        assert not (set(recorded) & {lease.seq for lease in held}), "what runs is leased still, by the new master"
        renewed = await holder.renew(run_id, held)
        assert not renewed.revoked, "leases were made anew from SQL"
        assert await holder.report(run_id, [completed(lease) for lease in held]) == []
        ended = await world.until(run_id, lambda run: run.state == pb.RUN_STATE_COMPLETED, seconds=SECONDS)
        assert ended.stages[0].counts.completed == items
        assert max(recorded.values()) == 1
        await world.scheduler.service.checks["redis"]()
        world.check()
    finally:
        await world.stop()


async def test_where_no_sentinel_knows_the_service_it_is_said(watched: Watched) -> None:
    told = await problem(watched.url.replace("/ours/", "/theirs/"))
    assert told.message == "no Sentinel names a master of this service (redis_url)"
