"""All of Penstock on PostgreSQL and S3: documents in, results out, a catalog's plan and its run; S3 away and back."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.client.resources import StageOptions
from penstock.v1 import scheduler_pb2
from tests.integration.stores.conftest import aws
from tests.integration.stores.test_roles import SERVICES, as_role, make_roles, migrated
from tests.servers.postgres import PostgresServer
from tests.servers.s3 import KEY, SECRET, S3Server
from tests.servers.stack import Stack, until


@pytest.fixture(scope="module")
def server(s3_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(s3_program, tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def stack(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Each service by its own role, and migrated by that of the migrations alone."""
    postgres = PostgresServer()
    url = postgres.create_database()
    make_roles(url)
    migrated(url)
    environment = {
        **{f"PENSTOCK_{name.upper()}__DATABASE_URL": as_role(url, name) for name in SERVICES},
        "PENSTOCK_DATABASE__AUTO_MIGRATE": "false",
        "PENSTOCK_BLOBS_URL": f"s3://{server.bucket}/of-the-stack",
        "PENSTOCK_S3_ENDPOINT": server.url,
        "PENSTOCK_S3_REGION": "us-east-1",
        **aws(KEY, SECRET),
    }
    one = Stack(tmp_path_factory.mktemp("stack") / "data", environment=environment)
    try:
        one.start()
        yield one
    finally:
        one.stop()
        postgres.stop()


@pytest.fixture(autouse=True)
def _keys(s3_keys: None) -> None:
    """The test's own client reads blobs by them."""


def readiness(stack: Stack) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(stack.url + "/readyz", timeout=5) as answer:
            return int(answer.status), str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:  # on a busy machine it may be late
        return 0, str(error)


def test_documents_go_in_and_results_come_out(stack: Stack, server: S3Server, tmp_path: Path) -> None:
    files = []
    for number in range(6):
        files.append(tmp_path / f"{number}.txt")
        files[-1].write_text(f"The {number}. pump of the mill was mended and turned for a day. " * 12)
    begun = stack.client.documents.analyze(files)
    job = stack.client.documents.wait(begun["run_id"])
    assert (job["status"], job["processed_documents"]) == ("COMPLETED", 6)
    results = stack.client.documents.results(job["run_id"])
    document = stack.client.documents.document(job["run_id"], results["documents"][0]["id"])
    assert str(document["text"]).startswith("The ")
    kept = [file for file in server.object("of-the-stack").glob("??/*") if file.is_file()]
    assert len(kept) >= 6
    plain = [file for file in (stack.data / "blobs").glob("[0-9a-f][0-9a-f]/*") if file.is_file()]
    assert plain == [], "no blob lies in the folder itself"


def test_a_catalog_is_planned_run_and_exported(stack: Stack, tmp_path: Path) -> None:
    catalog = tmp_path / "shop.jsonl"
    catalog.write_text(
        "".join(
            json.dumps({"product_id": f"p{i}", "brand": f"B{i % 3}", "model": str(i), "variant": ""}) + "\n"
            for i in range(300)
        )
    )
    source = stack.client.sources.catalog([catalog], name="shop", key=["product_id"], group="brand")
    plan = stack.client.plans.create(source.source_id, stages=[StageOptions(processor="noop", concurrency=20)])
    run = stack.client.runs.start(plan.plan_id, confirm=True)
    ended = stack.client.runs.wait(run.run_id)
    assert ended.state == scheduler_pb2.RUN_STATE_COMPLETED
    assert ended.counts.completed == 300


def test_while_s3_is_away_readiness_says_so_and_afterwards_is_true_again(stack: Stack, server: S3Server) -> None:
    until("it is ready", lambda: readiness(stack)[0] == 200)
    server.kill()
    until(
        "readiness names the blob store",
        lambda: "planner can't use the blob store: it does not answer" in readiness(stack)[1],
    )
    assert readiness(stack)[0] == 503
    server.start()
    until("it is ready again", lambda: readiness(stack)[0] == 200)
