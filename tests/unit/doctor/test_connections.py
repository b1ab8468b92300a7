"""The pools of all pods together find room at the server, or the doctor says which number mends it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from penstock.client.diagnosis_views import PoolView, ProgramView, program_away
from penstock.doctor.connections import judge_connections, most_pods
from penstock.doctor.facts import Json, Unseen
from penstock.doctor.findings import Finding, Level
from penstock.doctor.place import Place, Release
from tests.unit.doctor.test_cluster import WELL
from tests.unit.doctor.test_programs import program

CLUSTER = Place(Release(name="pen", namespace="batch", workers="pen-workers"))
PODS = {"planner": 1, "scheduler": 2, "analyzer": 1, "gateway": 2}
"""As the chart has them."""


def pool(most: int = 8, server_most: int = 100, server: str = "1") -> PoolView:
    return {"most": most, "server_most": server_most, "server_reserved": 3, "server": server}


def programs(**pools: PoolView) -> list[ProgramView]:
    return [{**program(name), "pool": pools.get(name, pool())} for name in PODS]


def judged(told: list[ProgramView], pods: dict[str, int] | None = None, place: Place = CLUSTER) -> list[Finding]:
    return list(judge_connections(told, PODS if pods is None else pods, place))


def small(server_most: int) -> list[ProgramView]:
    return programs(**{name: pool(server_most=server_most) for name in PODS})


def test_the_charts_own_numbers_find_room_at_a_server_as_it_comes() -> None:
    (found,) = judged(programs())
    assert found.level is Level.OK
    each = "planner 1 × 8, scheduler 2 × 8, analyzer 1 × 8, gateway 2 × 8"
    assert found.text == f"{each}: 48 at most, and the server has room for 97"


@pytest.mark.parametrize(
    ("server_most", "level"),
    [(83, Level.OK), (82, Level.WARN), (51, Level.WARN), (50, Level.FAIL)],
    ids=["room-for-an-upgrade", "none-for-an-upgrade", "just-room", "no-room"],
)
def test_what_is_too_little_is_told_with_the_number_that_mends_it(server_most: int, level: Level) -> None:
    (found,) = judged(small(server_most))
    assert found.level is level
    assert "48 at most" in found.text
    assert ("80 while an upgrade" in found.text) == (level is Level.WARN)
    if level is not Level.OK:
        assert "ALTER SYSTEM SET max_connections = 100'" in found.mend
        mended = judged(small(100))
        assert mended[0].level is Level.OK


def test_without_a_cluster_there_is_one_of_each_and_no_upgrade() -> None:
    (found,) = judged(small(35), {}, Place())
    assert found.level is Level.OK
    assert "32 at most" in found.text
    (short,) = judged(small(34), {}, Place())
    assert short.level is Level.FAIL
    assert "SERVICE.env" not in short.mend


def test_servers_are_judged_each_by_its_own_programs() -> None:
    told = programs(scheduler=pool(server="2", server_most=20), gateway=pool(server="2", server_most=20))
    found = {one.what: one for one in judged(told)}
    assert found["database connections of planner, analyzer"].level is Level.OK
    assert found["database connections of scheduler, gateway"].level is Level.FAIL
    assert "32 at most, and the server has room for 17" in found["database connections of scheduler, gateway"].text


def test_where_no_program_tells_of_a_server_nothing_is_said() -> None:
    alone = [program(name) for name in PODS]
    assert judged(alone) == []
    older = [{key: value for key, value in one.items() if key != "pool"} for one in alone]
    assert judged(older) == []  # type: ignore[arg-type]


def without_its_database() -> ProgramView:
    planner = program("planner")
    planner["dependencies"][0]["problem"] = "too many clients already"
    return planner


def with_its_last_connection() -> ProgramView:
    """It told the time of its server, and found no room for another question."""
    return program("planner")


def away() -> ProgramView:
    return program_away("planner", "it does not answer", answer_ms=3)


@pytest.mark.parametrize("silent", [without_its_database, with_its_last_connection, away])
def test_all_is_not_well_while_one_can_not_say_what_it_may_open(silent: Callable[[], ProgramView]) -> None:
    """It may be the very one that finds no room."""
    (found,) = judged([silent(), *programs()[1:]])
    assert found.level is Level.SKIP
    assert "what planner may open is not known; without that scheduler 2 × 8" in found.text
    (short,) = judged([silent(), *small(42)[1:]])
    assert short.level is Level.FAIL, "the others alone are too many"


def test_who_has_a_file_or_no_database_opens_nothing() -> None:
    planner, gateway = program("planner"), program("gateway")
    planner["dependencies"][0]["ahead_ms"] = None
    gateway["dependencies"] = []
    (found,) = judged([planner, *programs()[1:3], gateway])
    assert found.level is Level.OK


def test_of_a_release_whose_pods_may_not_be_counted_nothing_is_called_well() -> None:
    (found,) = judged(programs(), {"planner": 1, "scheduler": 2, "analyzer": 1})
    assert found.level is Level.SKIP
    assert "how many pods gateway may have is not known" in found.text


def scaler(name: str, most: int) -> Json:
    labels = {"app.kubernetes.io/component": name}
    return {"metadata": {"name": f"pen-{name}", "labels": labels}, "spec": {"maxReplicas": most}}


def test_what_scales_itself_has_as_many_pods_as_it_may() -> None:
    assert most_pods(WELL) == {"planner": 1, "scheduler": 1, "analyzer": 1, "gateway": 1}
    scaled = dataclasses.replace(WELL, autoscalers=(scaler("gateway", 9),))
    assert most_pods(scaled)["gateway"] == 9
    unseen = dataclasses.replace(WELL, deployments=Unseen("no"), autoscalers=Unseen("no"))
    assert most_pods(unseen) == {}
