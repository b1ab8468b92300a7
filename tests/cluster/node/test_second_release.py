"""A second release beside the first: what is wrong is told where a user looks, mended it works, and uninstalled it
leaves its data and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.node.product import CHART, CLASS, DEPLOYMENTS, READY_SECONDS, Product, values
from tests.cluster.node.stores import Stores
from tests.cluster.programs.daemon import wait_until

NAME = "second"
DATABASE = "postgresql://penstock:{password}@postgresql:5432/second"
RIGHT = DATABASE.format(password="try-out")
NOWHERE = "localhost/penstock:nowhere"
"""An image that no node has and none can pull."""
ITEMS = 20
RUNS = "SELECT count(*) FROM scheduler.runs"


def right(stores: Stores) -> dict[str, Any]:
    """A database and a prefix of the bucket of its own; its workers have another namespace by themselves."""
    whole = values(stores)
    for one in (*DEPLOYMENTS, "migrations"):
        del whole[one]["postgresql"]
    classes = whole["worker"]["classes"]
    classes["lost"] = {**classes[CLASS], "image": NOWHERE, "max": 1}
    return {**whole, "postgresql": {"url": RIGHT}, "s3": {"url": "s3://penstock/second"}}


def wrong(stores: Stores) -> dict[str, Any]:
    """Passwords of Redis and of the planner's database that are none."""
    whole = right(stores)
    whole["redis"] = {"url": "rediss://:not-this@redis:6379/0"}
    whole["planner"]["postgresql"] = {"url": DATABASE.format(password="not-this")}
    whole["migrations"]["postgresql"] = {"url": RIGHT}
    return whole


@pytest.fixture(scope="module")
def second(product: Product) -> Iterator[Product]:
    """Not installed yet."""
    product.stores.sql("CREATE DATABASE second;")
    one = Product(product.stores, release=NAME)
    yield one
    one.try_helm("uninstall", NAME, "--ignore-not-found")


@pytest.fixture(scope="module")
def mended(second: Product) -> Product:
    """As it should be, whatever it was."""
    given = right(second.stores)
    there = second.try_helm("status", NAME).returncode == 0
    (second.upgrade if there else second.install)(given)
    second.wait_ready()
    return second


def logs(product: Product, program: str) -> str:
    words = ("logs", f"--selector=app.kubernetes.io/instance={product.release},app.kubernetes.io/component={program}")
    return product.control_plane.try_kubectl("-n", product.namespace, *words, "--tail=20").stdout


def messages(product: Product, namespace: str) -> str:
    """Of all events, one a line."""
    found = json.loads(product.control_plane.kubectl("-n", namespace, "get", "events", "-o", "json"))["items"]
    return "\n".join(f"{one['involvedObject']['name']}: {one.get('message', '')}" for one in found)


def wait_told(product: Product, program: str, words: str) -> str:
    """The line of its log that says so."""
    wait_until(lambda: words in logs(product, program), f"{program} says: {words}", seconds=READY_SECONDS)
    return next(line for line in logs(product, program).splitlines() if words in line)


def serving(product: Product) -> set[str]:
    """Pods of the programs that are ready and stay."""
    return {
        pod["metadata"]["uid"]
        for name in DEPLOYMENTS
        for pod in product.pods(name)
        if "deletionTimestamp" not in pod["metadata"]
        and all(one["ready"] for one in pod["status"].get("containerStatuses", [{"ready": False}]))
    }


def test_passwords_that_are_wrong_are_told_in_events_and_logs_and_nothing_becomes_ready(second: Product) -> None:
    second.install(wrong(second.stores))
    scheduler = wait_told(second, "scheduler", "Redis refuses user or password (redis_url)")
    planner = wait_told(second, "planner", "password authentication failed for user")
    assert "the planner's database can't be used" in planner
    assert "not-this" not in scheduler + planner
    seen = 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'
    for program in ("scheduler", "planner"):
        (pod,) = second.pods(program)
        name = pod["metadata"]["name"]
        wait_until(
            lambda name=name: f"{name}: {seen}" in messages(second, second.namespace),  # type: ignore[misc]
            f"an event says that {program} is not ready",
            seconds=READY_SECONDS,
        )
        assert not any(one["ready"] for one in pod["status"]["containerStatuses"])
        assert {one["restartCount"] for one in pod["status"]["containerStatuses"]} == {0}


def test_mended_by_an_upgrade_it_runs_beside_the_first(mended: Product, product: Product) -> None:
    runs = [one.start([{"key": f"k{number}"} for number in range(ITEMS)]) for one in (mended, product)]
    for one, run_id in zip((mended, product), runs, strict=True):
        assert one.wait(run_id)["state"] == "completed"
    assert [run["run_id"] for run in mended.get("runs")["runs"]] == runs[:1]
    assert {pod["metadata"]["namespace"] for pod in mended.worker_pods()} == {f"{NAME}-workers"}


def test_programs_of_an_image_that_is_not_there_are_told_in_an_event_and_the_old_ones_serve(mended: Product) -> None:
    before = serving(mended)
    mended.upgrade({**right(mended.stores), "image": {"tag": "9.9.9"}})
    told = 'Failed to pull image "penstock:9.9.9"'
    wait_until(lambda: told in messages(mended, mended.namespace), told, seconds=READY_SECONDS)
    assert serving(mended) == before
    assert mended.get("classes")["classes"]
    mended.helm("rollback", NAME)
    mended.wait_ready()


def test_workers_of_an_image_that_is_not_there_are_told_by_class_run_and_event(mended: Product) -> None:
    run_id = mended.start([{"key": "waits"}], worker_class="lost")

    def trouble() -> dict[str, Any]:
        return next(dict(one) for one in mended.get("classes")["classes"] if one["name"] == "lost")

    wait_until(lambda: trouble()["trouble"] == "image", "the class tells of its image", seconds=READY_SECONDS)
    assert NOWHERE in trouble()["text"]
    assert "image" in trouble()["advice"]
    assert NOWHERE in messages(mended, mended.workers)
    why = json.dumps(mended.get(f"runs/{run_id}/explain"))
    assert NOWHERE in why, why
    assert "workers.short" in [event["type"] for event in mended.events(run_id)]
    mended.post(f"runs/{run_id}/stop", {})
    assert mended.wait(run_id)["state"] == "stopped"


def test_a_name_or_a_worker_namespace_that_is_taken_is_refused(mended: Product, product: Product) -> None:
    words = mended.values_words(right(mended.stores))
    again = product.try_helm("install", product.release, str(CHART), *words)
    assert again.returncode != 0
    assert "still in use" in again.stderr
    other = product.try_helm("install", "third", str(CHART), *words, "--set", f"worker.namespace={product.workers}")
    assert other.returncode != 0
    assert f"the namespace {product.workers} belongs to the release {product.release}" in other.stderr
    assert product.try_helm("status", "third").returncode != 0


def test_uninstalled_it_leaves_its_data_and_nothing_else(mended: Product, product: Product) -> None:
    control_plane = mended.control_plane
    mended.helm("test", NAME, "--timeout", "5m")
    kinds = control_plane.kubectl("api-resources", "--verbs=list", "-o", "name").split()
    every = ",".join(kind for kind in kinds if not kind.startswith(("events", "componentstatuses")))

    def left() -> str:
        words = ("get", every, "--all-namespaces", "-o", "name", "--ignore-not-found")
        of_release = control_plane.kubectl(*words, "--selector", f"app.kubernetes.io/instance={NAME}")
        named = control_plane.kubectl(*words).split()
        return of_release + "\n".join(one for one in named if one.partition("/")[2].startswith(NAME))

    assert left()
    runs = mended.stores.sql(RUNS, database=NAME).strip()
    mended.helm("uninstall", NAME)
    wait_until(lambda: not left(), "nothing of it is left", seconds=READY_SECONDS)
    assert mended.stores.sql(RUNS, database=NAME).strip() == runs != "0"
    assert product.wait(product.start([{"key": "on"}]))["state"] == "completed"
