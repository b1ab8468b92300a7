"""Judges whether all pods of all programs together find room at their database's server. Pure.

A program may open its whole pool in each of its pods, and an upgrade has one pod more of each while it exchanges them.
What others do at the same server is not known: the number that is named as enough has `SPARE` for somebody's psql, and
the Job of the migrations. A program that can't say what it may open may be the one that finds no room: of what the
others say it may follow that there is too little, and never that all is well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from penstock.client.diagnosis_views import PoolView, ProgramView
from penstock.doctor.facts import ClusterFacts, Unseen
from penstock.doctor.findings import Finding, ok, skipped, wrong
from penstock.doctor.place import COMPONENT, Place

__all__ = ["judge_connections", "most_pods"]

SPARE = 10


def most_pods(facts: ClusterFacts) -> dict[str, int]:
    """Program -> pods that it may have; of what may not be seen nothing."""
    found = {}
    for one in () if isinstance(facts.deployments, Unseen) else facts.deployments:
        found[str(one["metadata"]["labels"].get(COMPONENT, ""))] = int(one["spec"].get("replicas", 1))
    for one in () if isinstance(facts.autoscalers, Unseen) else facts.autoscalers:
        found[str(one["metadata"]["labels"].get(COMPONENT, ""))] = int(one["spec"]["maxReplicas"])
    return found


def judge_connections(programs: Sequence[ProgramView], pods: Mapping[str, int], place: Place) -> Iterator[Finding]:
    """pods: of each program, where there are several; one of each else."""
    servers: dict[str, list[tuple[str, PoolView]]] = {}
    for one in programs:
        if (pool := one.get("pool")) is not None:  # a gateway of an older version has none
            servers.setdefault(pool["server"], []).append((one["program"], pool))
    silent = [one["program"] for one in programs if one.get("pool") is None and _says_nothing(one)]
    for pools in servers.values():
        of_all = len(servers) == 1
        what = "database connections" if of_all else f"database connections of {', '.join(name for name, _ in pools)}"
        yield _judged(what, pools, pods, place, silent)


def _says_nothing(one: ProgramView) -> bool:
    """It does not answer, or has a server and can't say more of it: one that is full, or it is of an older version. A
    database that is a file has no clock."""
    sql = [each for each in one["dependencies"] if each["name"] == "sql"]
    return bool(one["problem"]) or any(each["problem"] or each["ahead_ms"] is not None for each in sql)


def _judged(
    what: str, pools: Sequence[tuple[str, PoolView]], pods: Mapping[str, int], place: Place, silent: Sequence[str]
) -> Finding:
    _, first = pools[0]
    room = first["server_most"] - first["server_reserved"]
    steady = sum(pods.get(name, 1) * pool["most"] for name, pool in pools)
    # The chart's Deployments make one pod before they end another.
    during = steady + sum(pool["most"] for _, pool in pools) * (place.release is not None)
    each = ", ".join(f"{name} {pods.get(name, 1)} × {pool['most']}" for name, pool in pools)
    told = f"{each}: {steady} at most, and the server has room for {room}"
    if during <= room:
        unsaid = [f"what {name} may open" for name in silent]
        unsaid += [f"how many pods {name} may have" for name, _ in pools if place.release and name not in pods]
        return skipped(what, f"{', '.join(unsaid)} is not known; without that {told}") if unsaid else ok(what, told)
    enough = -(-(during + first["server_reserved"] + SPARE) // 10) * 10
    setting = "PENSTOCK_DATABASE__POOL_OVERFLOW"
    where = f"less {setting} in SERVICE.env" if place.release else f"a smaller {setting}"
    mend = f"psql OWNER-URL -c 'ALTER SYSTEM SET max_connections = {enough}'   # and restart it; or {where}"
    if steady <= room:
        told = f"{told}; {during} while an upgrade exchanges the pods"
    return wrong(what, told, mend, only_warns=steady <= room)
