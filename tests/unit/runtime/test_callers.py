"""The table of callers: no method without a rule, no rule without a method, and the chart's edges are the table's."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from penstock.runtime import callers
from penstock.runtime.errors import PermissionDenied, Unauthenticated

ROOT = Path(__file__).parents[3]
EDGES = ROOT / "charts" / "penstock" / "files" / "edges.yaml"


def methods() -> list[str]:
    """`/package.Service/Method` of every proto that we have."""
    found = []
    for path in sorted((ROOT / "protos" / "penstock" / "v1").glob("*.proto")):
        module = importlib.import_module(f"penstock.v1.{path.stem}_pb2")
        for service in module.DESCRIPTOR.services_by_name.values():
            found += [f"/{service.full_name}/{method.name}" for method in service.methods]
    return found


@pytest.mark.parametrize("method", methods())
def test_every_method_has_a_rule(method: str) -> None:
    may = callers.allowed(method)
    assert may, f"{method} stands in no rule of penstock/runtime/callers.py: nobody can call it over mutual TLS"
    assert may <= set(callers.CALLERS)


def test_every_rule_is_of_a_method_that_is_there() -> None:
    ruled = {
        f"/{service}/{method}"
        for rules in callers.RULES.values()
        for service, methods in rules.items()
        for method in methods
    }
    assert ruled == set(methods())


def test_leases_are_for_workers_alone() -> None:
    for method in methods():
        if ".LeaseService/" in method:
            assert callers.allowed(method) == {"worker"}


def test_no_program_may_do_what_people_do_but_the_gateway() -> None:
    for method in ("PlannerService/CreatePlan", "SchedulerService/StartRun", "LimitService/SetLimit"):
        assert callers.allowed(f"/penstock.v1.{method}") == {"gateway", "client"}


def test_health_is_for_each_and_reflection_for_people() -> None:
    assert callers.allowed(f"/{health.SERVICE_NAME}/Check") == set(callers.CALLERS)
    assert callers.allowed(f"/{reflection.SERVICE_NAME}/ServerReflectionInfo") == {"client"}


def test_a_method_that_nobody_knows_is_refused() -> None:
    with pytest.raises(PermissionDenied, match=r"penstock-client may not call a\.B/C: nobody may"):
        callers.admit("/a.B/C", ["penstock-client"])


def test_a_refusal_says_who_called_what_and_who_may() -> None:
    with pytest.raises(PermissionDenied) as refused:
        callers.admit("/penstock.v1.LeaseService/Acquire", ["penstock-gateway", "example.org"])
    assert refused.value.message == (
        "penstock-gateway may not call penstock.v1.LeaseService/Acquire: penstock-worker may"
    )
    assert refused.value.code == "caller_not_allowed"


def test_a_certificate_of_several_names_may_what_one_of_them_may() -> None:
    callers.admit("/penstock.v1.LeaseService/Acquire", ["penstock-gateway", "penstock-worker"])


@pytest.mark.parametrize("names", [[], ["example.org"], ["penstock-"], ["penstock-planners"], ["planner"]])
def test_a_certificate_without_one_of_our_names_is_nobodys(names: list[str]) -> None:
    with pytest.raises(Unauthenticated, match="nobody's here"):
        callers.admit("/grpc.health.v1.Health/Check", names)


def test_the_edges_are_those_that_work_takes() -> None:
    assert callers.edges() == [
        ("gateway", "analyzer"),
        ("gateway", "planner"),
        ("gateway", "scheduler"),
        ("planner", "scheduler"),
        ("scheduler", "planner"),
        ("worker", "analyzer"),
        ("worker", "scheduler"),
    ]


@pytest.mark.skipif(not EDGES.exists(), reason="the chart's edges are not there: charts/penstock/files/edges.yaml")
def test_the_chart_has_the_edges_of_the_table() -> None:
    assert EDGES.read_text() == callers.printed(), "write it: python -m penstock.runtime.callers > " + str(
        EDGES.relative_to(ROOT)
    )
