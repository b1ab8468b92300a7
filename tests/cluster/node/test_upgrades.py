"""`helm upgrade` and `helm rollback` in the middle of a run: no item is interrupted, none is lost or done twice.

A limit that all items share keeps the run in its middle for as long as programs and workers take to turn over, on a
slow machine too; then it is raised.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.cluster.node.product import MOST_PODS, READY_SECONDS, SLOTS, TAGS, Product
from tests.cluster.node.story import Story, telling
from tests.cluster.programs.daemon import wait_until

ITEM_SECONDS = 0.3
FIRST = 50
"""So many items are done before anything changes."""
SLOWLY, FREELY = 6, 1_000
"""Items at once."""


def limited(product: Product, name: str, concurrency: int) -> None:
    answer = product.http.put(f"/api/v1/limits/{key(name)}", json={"concurrency": concurrency})
    assert answer.is_success, answer.text


def key(name: str) -> str:
    return f"slow:{name}"


def begun(product: Product, story: Story, *, items: int) -> str:
    """A run at work on two pods or more."""
    limited(product, story.name, SLOWLY)
    run_id = product.start(
        [{"key": f"item-{number}", "payload": {"limits": [key(story.name)]}} for number in range(items)],
        parameters={"sleep_seconds": ITEM_SECONDS},
        concurrency=MOST_PODS * SLOTS,
        name=story.name,
    )
    product.until(run_id, lambda run: run["counts"]["completed"] >= FIRST, f"{FIRST} items are done")
    wait_until(lambda: len(product.worker_pods()) >= 2, "two worker pods are there", seconds=READY_SECONDS)
    story.begin(run_id)
    story.say(f"{len(story.old)} worker pods are at work, {SLOWLY} of {items} items at once")
    return run_id


def turned_over(product: Product, story: Story) -> None:
    """Waits until no old worker pod is left and two new ones are."""

    def over() -> bool:
        pods = {str(pod["metadata"]["uid"]) for pod in product.worker_pods()}
        return not pods & story.old and len(pods) >= 2

    wait_until(over, "new worker pods have taken the place of the old", seconds=READY_SECONDS)


def images_of(pods: list[dict[str, Any]]) -> set[str]:
    return {container["image"] for pod in pods for container in pod["spec"]["containers"]}


def assert_each_once(product: Product, run_id: str, *, items: int) -> None:
    run = product.run(run_id)
    assert (run["state"], run["counts"]["completed"]) == ("completed", items), run
    found = product.items(run_id)
    assert sorted(one["seq"] for one in found) == list(range(items))
    assert {one["state"] for one in found} == {"completed"}
    # Of tries those count that failed; one that was handed back unbegun would be another attempt.
    assert Counter((one["attempt"], one["tries"]) for one in found) == {(1, 0): items}
    lost = [event for event in product.events(run_id) if "lost" in event["type"]]
    assert not lost, lost


def finished(product: Product, story: Story, run_id: str, *, items: int) -> None:
    """After programs were told to change: all turn over while the run goes on, and then it ends well."""
    product.wait_ready()
    story.say("planner, scheduler, analyzer and gateway are rolled out, the old ones gone")
    turned_over(product, story)
    still = product.run(run_id)["counts"]["completed"]
    story.say(f"no old worker pod is left; {still} of {items} items are done, now {FREELY} at once")
    assert still < items, "the run was over before its workers were: it showed nothing"
    limited(product, story.name, FREELY)
    product.wait(run_id)
    story.say(f"all {items} items are done")


def test_an_upgrade_in_the_middle_of_2000_items_interrupts_none(product: Product) -> None:
    items = 2_000
    with telling(product, "upgrade") as story, product.watching("upgrade"):
        run_id = begun(product, story, items=items)
        story.say(f"helm upgrade to {TAGS[1]}")
        product.upgrade({**product.values, "image": {"tag": TAGS[1]}})
        finished(product, story, run_id, items=items)
        assert images_of(product.worker_pods()) == {f"penstock:{TAGS[1]}"}
    assert_each_once(product, run_id, items=items)


def test_a_rollback_in_the_middle_of_a_run_interrupts_none(product: Product) -> None:
    items = 1_000
    with telling(product, "rollback") as story, product.watching("rollback"):
        run_id = begun(product, story, items=items)
        before = images_of(product.worker_pods())
        story.say("helm rollback")
        product.helm("rollback", product.release)
        finished(product, story, run_id, items=items)
        assert images_of(product.worker_pods()) != before
    assert_each_once(product, run_id, items=items)
