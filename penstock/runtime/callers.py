"""Who may call what over mutual TLS: the one table. The interceptor reads it, and so do the cluster's network policies.

A caller is a name in a certificate, `penstock-NAME`. A method that stands nowhere may be called by nobody: a test goes
over every method of every proto. Nothing here asks the network; a refusal says who called and who may.

`python -m penstock.runtime.callers` prints the edges (service -> service) as the chart has them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from penstock.runtime.errors import PermissionDenied, Unauthenticated

__all__ = ["CALLERS", "RULES", "SERVICES", "Edge", "admit", "allowed", "edges", "names_of", "printed"]

SERVICES = ("planner", "scheduler", "worker", "analyzer", "gateway")
CALLERS = (*SERVICES, "client")
"""`client`: programs and operators that call gRPC themselves."""

PREFIX = "penstock-"

_ALL = frozenset(CALLERS)
_FACE = frozenset({"gateway", "client"})
"""People, by way of the gateway or of a program of theirs."""

Rules = Mapping[str, Mapping[str, frozenset[str]]]


def _face(names: str) -> dict[str, frozenset[str]]:
    return dict.fromkeys(names.split(), _FACE)


_DIAGNOSIS: Rules = {"penstock.v1.DiagnosisService": _face("Diagnose")}
"""Of every service that is called."""

_PLANNER: Rules = {
    **_DIAGNOSIS,
    "penstock.v1.PlannerService": {
        **_face("CreateSource AddSource RefreshSource GetSource ListSources ListSourceVersions DescribeSource"),
        **_face("ReadSourceRows DeleteSource CreatePlan GetPlan ListPlans UpdatePlan DeletePlan ReadPlanRows"),
        **_face("ListEstimates ComparePlans SamplePlan ListProfiles CopyPlan ExportPlan ImportPlan"),
        **_face("ListProcessors GetProcessor"),
        "KeepPlan": frozenset({"scheduler"}),
        "ReadPlanItems": _FACE | {"scheduler"},
        "ListPlanLanes": frozenset({"scheduler"}),
        "DerivePlan": frozenset({"scheduler"}),
    },
}

_SCHEDULER: Rules = {
    **_DIAGNOSIS,
    "penstock.v1.SchedulerService": {
        **_face("StartRun ListRuns PauseRun ResumeRun StopRun ListItems WatchRun GetRunSummary ExplainRun"),
        **_face("ExplainItem UpdateRun AnswerGate ListGates ActOnItems GetItemAction CloneRun ListLedger"),
        **_face("GetRetries SetRetries"),
        "GetRun": _FACE | {"planner"},
        "ListEvents": _FACE | {"planner"},
        "ListSettledRuns": frozenset({"planner"}),
        "ReleasePlan": frozenset({"planner"}),
        "ReadOutcomes": _FACE | {"planner", "worker"},
    },
    "penstock.v1.LimitService": {
        **_face("ListLimitEvents SetLimit DeleteLimit CloseLimit OpenLimit SetPrice"),
        "ListLimits": _FACE | {"planner"},
        "ListPrices": _FACE | {"planner"},
    },
    "penstock.v1.WorkerService": _face("ListWorkers DrainWorkers GetWorkerLog ListClasses"),
    "penstock.v1.LeaseService": dict.fromkeys(
        ("Acquire", "Report", "Renew", "EndSession", "TopUp"), frozenset({"worker"})
    ),
}

_ANALYZER: Rules = {
    **_DIAGNOSIS,
    "penstock.v1.AnalyzerService": {
        **_face("ListCollectionDocuments"),
        "GetCollection": _FACE | {"worker"},
        "AnalyzeDocuments": frozenset({"worker"}),
        "AnalyzeCollection": frozenset({"worker"}),
    },
}

RULES: Mapping[str, Rules] = {"planner": _PLANNER, "scheduler": _SCHEDULER, "analyzer": _ANALYZER}
"""Service that is called -> gRPC service -> method -> who may."""

_OF_EACH: Rules = {
    "grpc.health.v1.Health": {"Check": _ALL, "Watch": _ALL, "List": _ALL},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": frozenset({"client"})},
}
"""What every server has besides."""

_BY_METHOD: dict[str, frozenset[str]] = {
    f"/{service}/{method}": callers
    for rules in (*RULES.values(), _OF_EACH)
    for service, methods in rules.items()
    for method, callers in methods.items()
}


class Edge(NamedTuple):
    caller: str
    called: str


def edges() -> list[Edge]:
    """Which service opens connections to which, in order. Clients are no service: what lets them in says so itself."""
    found = {
        Edge(caller, called)
        for called, rules in RULES.items()
        for methods in rules.values()
        for callers in methods.values()
        for caller in callers
        if caller in SERVICES and caller != called
    }
    return sorted(found)


def allowed(method: str) -> frozenset[str]:
    """Who may call `/package.Service/Method`; nobody, where there is no rule."""
    return _BY_METHOD.get(method, frozenset())


def names_of(dns_names: Iterable[str]) -> list[str]:
    """The callers that a certificate's DNS names stand for."""
    return [name.removeprefix(PREFIX) for name in dns_names if name.startswith(PREFIX) and name[len(PREFIX) :] in _ALL]


def admit(method: str, dns_names: Collection[str]) -> None:
    """Raises Unauthenticated for a certificate of nobody's, PermissionDenied for a caller that this is not for."""
    callers = names_of(dns_names)
    if not callers:
        shown = ", ".join(sorted(dns_names)) or "none"
        raise Unauthenticated(
            f"the caller's certificate is nobody's here: its DNS names ({shown}) have none of "
            f"{', '.join(PREFIX + name for name in CALLERS)}"
        )
    may = allowed(method)
    if may.isdisjoint(callers):
        who = " and ".join(PREFIX + name for name in callers)
        whom = ", ".join(PREFIX + name for name in CALLERS if name in may) or "nobody"
        raise PermissionDenied(
            f"{who} may not call {method.lstrip('/')}: {whom} may", code="caller_not_allowed", caller=callers[0]
        )


def printed() -> str:
    """The edges as YAML: what charts/penstock/files/edges.yaml holds."""
    lines = [
        "# Which program calls which over gRPC. Made by `python -m penstock.runtime.callers`; not written by hand.",
        "edges:",
    ]
    for caller, called in edges():
        lines += [f"  - from: {caller}", f"    to: {called}"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(printed(), end="")
