"""The product itself behind its own NetworkPolicies, enforced: every program starts anew, and a batch runs."""

from __future__ import annotations

from tests.cluster.node.policies import Walls
from tests.cluster.node.product import CLASS, DEPLOYMENTS, Product


def test_the_product_starts_and_runs_a_batch_with_all_else_cut(product: Product) -> None:
    """No connection is older than the walls: without an edge that it needs a program is not ready, or the run stuck."""
    with Walls(product.control_plane, (product.namespace, product.workers)):
        product.kubectl("rollout", "restart", *(f"deployment/{product.release}-{name}" for name in DEPLOYMENTS))
        product.wait_ready()
        told = product.helm("test", product.release, "--logs")
        assert "Phase:          Succeeded" in told or "Succeeded" in told, told
        run_id = product.start([{"key": f"k{number}"} for number in range(40)], parameters={"sleep_seconds": 0.05})
        assert product.wait(run_id)["state"] == "completed"
        assert CLASS in product.cli("classes")
