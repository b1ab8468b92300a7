"""Backup and restore as docs/cluster.md has it: PostgreSQL is dumped by pg_dump, then the bucket copied, while a run is
half done; all of it is lost, Redis too, and comes back in an empty database and another bucket; each item is recorded
once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest
import s3fs

from penstock import Client
from penstock.client.resources import StageOptions
from penstock.client.synchronous_runs import RunHandle
from penstock.v1 import scheduler_pb2
from tests.integration.stores.conftest import aws
from tests.integration.stores.test_roles import SERVICES, as_role, make_roles, migrated
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import KEY, SECRET, S3Server
from tests.servers.stack import Stack, until

ITEMS = 240
HALF = 60
pytestmark = pytest.mark.timeout(300)

MakeStack = Callable[..., Stack]
Ends = dict[int, tuple[int, str]]
"""seq -> attempt and end time of an item that is completed."""


@pytest.fixture(autouse=True)
def _keys(s3_keys: None) -> None:
    """The test's own client reads blobs by them."""


@pytest.fixture
def postgres_of_roles() -> Iterator[PostgresServer]:
    """One of its own: roles are all databases'."""
    one = PostgresServer()
    yield one
    one.stop()


@pytest.fixture
def buckets(s3_program: Path, tmp_path: Path) -> Iterator[tuple[S3Server, S3Server]]:
    """The one that is lost, and the one that is restored into."""
    both = S3Server(s3_program, tmp_path / "s3"), S3Server(s3_program, tmp_path / "other-s3")
    yield both
    for one in both:
        one.stop()


def environment(url: str, bucket: S3Server, *, roles: bool) -> dict[str, str]:
    urls = {service: as_role(url, service) if roles else url for service in SERVICES}
    return {
        **{f"PENSTOCK_{name.upper()}__DATABASE_URL": of_service for name, of_service in urls.items()},
        "PENSTOCK_DATABASE__AUTO_MIGRATE": "false" if roles else "true",
        # What ran when the copy was made runs again once its lease of then has ended.
        "PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS": "5",
        "PENSTOCK_BLOBS_URL": f"s3://{bucket.bucket}/penstock",
        "PENSTOCK_S3_ENDPOINT": bucket.url,
        "PENSTOCK_S3_REGION": "us-east-1",
        **aws(KEY, SECRET),
    }


def synced(server: S3Server, words: Callable[[s3fs.S3FileSystem], None]) -> None:
    """What `aws s3 sync` does, through the same API."""
    words(s3fs.S3FileSystem(key=KEY, secret=SECRET, endpoint_url=server.url, use_listings_cache=False))


def done(program: Path, *words: str) -> None:
    answer = subprocess.run([str(program), *words], capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, f"{program.name}: {answer.stderr}"


def begun(client: Client, folder: Path) -> RunHandle:
    rows = folder / "items.jsonl"
    rows.write_text("".join(json.dumps({"key": f"k{n}", "payload": {"n": n}}) + "\n" for n in range(ITEMS)))
    stage = StageOptions(processor="noop", concurrency=4, parameters={"sleep_seconds": 0.15})
    plan = client.plans.create(client.sources.items(rows).source_id, stages=[stage])
    return client.run(client.runs.start(plan.plan_id, confirm=True))


def completed(run: RunHandle) -> int:
    return int(run.refresh().counts.completed)


def ends(run: RunHandle) -> Ends:
    found: Ends = {}
    for item in run.items(states=["completed"]):
        assert item.seq not in found
        found[item.seq] = (item.attempt, item.end_time.ToJsonString())
    return found


@pytest.mark.parametrize("roles", [False, True], ids=["one-user-while-it-runs", "least-rights-paused"])
def test_everything_is_lost_half_way_and_comes_back_with_each_item_recorded_once(
    postgres_of_roles: PostgresServer,
    buckets: tuple[S3Server, S3Server],
    fresh_stack: MakeStack,
    tmp_path: Path,
    roles: bool,
) -> None:
    server, (bucket, other) = postgres_of_roles, buckets
    url, dump, copy = server.create_database(), tmp_path / "penstock.dump", tmp_path / "bucket"
    if roles:
        make_roles(url)
        migrated(url)
    first = fresh_stack("first", environment=environment(url, bucket, roles=roles))
    first.start()
    run = begun(first.client, tmp_path)
    run_id = run.run_id
    until("the run is half done", lambda: completed(run) >= HALF, seconds=90)
    if roles:
        run.pause()
    before = ends(run)

    # The backup, while all of it runs: the database first, then the bucket.
    done(server.program("pg_dump"), "--format=custom", f"--file={dump}", f"--dbname={url}")
    synced(bucket, lambda s3: s3.get(f"{bucket.bucket}/penstock", str(copy), recursive=True))
    if not roles:
        until("more is done than the copy knows", partial(_more, run, len(before) + 12), seconds=90)
    assert len(before) < ITEMS

    # Everything is lost: programs, Redis with its folder, the bucket, the database.
    first.kill_supervisor()
    first.stop()
    bucket.kill()
    server.drop_database(url)

    # The restore, into an empty database and another bucket; Redis begins empty.
    restored = server.create_database()
    words = ["--no-owner", "--no-privileges", "--exit-on-error", f"--dbname={restored}", str(dump)]
    done(server.program("pg_restore"), *words)
    if roles:
        make_roles(restored)
    synced(other, lambda s3: s3.put(f"{copy}/", f"{other.bucket}/penstock/", recursive=True))
    second = fresh_stack("second", environment=environment(restored, other, roles=roles))
    second.start()
    run = second.client.run(second.client.runs.get(run_id))
    if roles:
        assert run.refresh().state == scheduler_pb2.RUN_STATE_PAUSED
        assert ends(run).items() >= before.items()
        run.resume()
    ended = second.client.runs.wait(run_id)

    assert ended.state == scheduler_pb2.RUN_STATE_COMPLETED
    assert (ended.counts.completed, ended.counts.failed, ended.counts.total) == (ITEMS, 0, ITEMS)
    after = ends(run)
    assert sorted(after) == sorted(set(after))
    assert len(after) == ITEMS
    # What was completed in the copy was not done again.
    assert {seq: after[seq] for seq in before} == before
    with psycopg.connect(restored) as connection:
        told = connection.execute("SELECT count(*), count(DISTINCT (stage, seq)) FROM scheduler.items").fetchone()
    assert told == (ITEMS, ITEMS)


def _more(run: RunHandle, than: int) -> bool:
    return completed(run) >= than
