"""`penstock cluster doctor` on the whole product as pods, run from afar as an operator does it."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cluster.images import ROOT
from tests.cluster.node.fragile import SECRET, secret
from tests.cluster.node.product import DEPLOYMENTS, Product
from tests.cluster.showing import show

DOCTOR = [sys.executable, "-P", "-m", "penstock", "cluster", "doctor"]


def looked(product: Product) -> tuple[int, list[str]]:
    """Exit code and lines."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PENSTOCK_")}
    environment = {
        **bare,
        "KUBECONFIG": str(product.control_plane.kubeconfig),
        "PENSTOCK_URL": str(product.http.base_url),
        "PENSTOCK_TOKEN": product.http.headers["Authorization"].removeprefix("Bearer "),
    }
    words = ["--release", product.release, "--namespace", product.namespace]
    done = subprocess.run(
        [*DOCTOR, *words], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


def wrongs(lines: list[str]) -> list[str]:
    """What was found, and what was not looked at."""
    return [line for line in lines if line.startswith(("fail", "warn", "—"))]


def test_a_secret_that_a_class_waits_for_is_all_that_is_wrong_and_then_nothing_is(product: Product) -> None:
    workers = product.workers
    product.control_plane.kubectl("-n", workers, "delete", "secret", SECRET, "--ignore-not-found")
    code, lines = looked(product)
    assert code == 1
    some = wrongs(lines)
    assert len(some) == 1, "\n".join(some)
    (found,) = some
    assert f"secret {SECRET}" in found
    assert f"there is none in the namespace {workers}" in found
    mend = lines[lines.index(found) + 1].strip()
    assert mend == f"mend: kubectl -n {workers} create secret generic {SECRET} --from-file=KEY=FILE"

    product.control_plane.apply(secret(workers))
    code, lines = looked(product)
    show("doctor.txt", "\n".join(lines) + "\n")
    assert (code, wrongs(lines)) == (0, []), "\n".join(lines)
    checks = {line[6:].split("  ")[0].strip() for line in lines}
    for program in DEPLOYMENTS:
        assert {program, f"{program} database", f"{program} blobs", f"{program} schema"} <= checks
        assert {f"{program} certificate", f"deployment {program}"} <= checks
    assert {"scheduler Redis", "scheduler API server", "scheduler rights", "service account"} <= checks


def test_a_redis_that_is_away_is_named_and_all_else_answers(product: Product) -> None:
    product.stores.kubectl("scale", "deployment/redis", "--replicas=0")
    try:
        product.stores.kubectl("wait", "--for=delete", "pod", "-l", "app=redis", "--timeout=60s")
        code, lines = looked(product)
        assert code == 1
        (redis,) = (line for line in lines if line.startswith("fail") and "scheduler Redis" in line)
        assert "--set redis.url=" in lines[lines.index(redis) + 1]
        for check in ("scheduler database", "scheduler blobs", "planner database", "gateway database"):
            assert any(line.startswith("ok") and line[6:].startswith(check) for line in lines), check
    finally:
        product.stores.kubectl("scale", "deployment/redis", "--replicas=1")
        product.stores.rolled_out("redis")
        product.wait_ready()
