"""What programs say of themselves becomes findings, each with the command that mends it."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable

import pytest

from penstock.client.diagnosis_views import DiagnosisView, ProgramView, program_away
from penstock.doctor.findings import Finding, Level, ok, wrong
from penstock.doctor.place import Place, Release
from penstock.doctor.programs import judge_programs

NOW_MS = 1_800_000_000_000
CLUSTER = Place(Release(name="pen", namespace="batch", workers="pen-workers"))
PLACES = [Place(), CLUSTER]


def iso(days: float) -> str:
    return dt.datetime.fromtimestamp(NOW_MS / 1000 + days * 86_400, dt.UTC).isoformat()


def program(name: str) -> ProgramView:
    return {
        "program": name,
        "problem": None,
        "version": "1.2.0",
        "answer_ms": 20,
        "ahead_ms": 3,
        "dependencies": [
            {"name": "sql", "problem": None, "answer_ms": 4, "ahead_ms": -2},
            {"name": "blobs", "problem": None, "answer_ms": 9, "ahead_ms": None},
        ],
        "schema_state": {"revision": "0007", "own": "0007", "oldest_program": "0006"},
        "pool": None,
        "certificate": {"end_time": iso(100), "authority_end_time": iso(3000), "refused": None},
        "rights": [],
    }


def well() -> DiagnosisView:
    names = ("gateway", "planner", "scheduler", "analyzer")
    told: DiagnosisView = {
        "version": "1.2.0",
        "now_ms": NOW_MS,
        "programs": [program(name) for name in names],
        "classes": [],
    }
    scheduler = told["programs"][2]
    scheduler["dependencies"].append({"name": "redis", "problem": None, "answer_ms": 1, "ahead_ms": 0})
    scheduler["dependencies"].append({"name": "kubernetes", "problem": None, "answer_ms": 8, "ahead_ms": None})
    scheduler["rights"] = [
        {
            "namespace": "pen-workers",
            "verb": verb,
            "resource": "pods",
            "name": None,
            "wanted": verb != "patch",
            "allowed": verb != "patch",
        }
        for verb in ("create", "delete", "patch")
    ]
    return told


def judged(told: DiagnosisView, place: Place = CLUSTER) -> list[Finding]:
    return judge_programs(told, place, own_version="1.2.0", now_ms=NOW_MS)


def test_what_is_well_has_no_finding() -> None:
    for place in PLACES:
        assert {one.level for one in judged(well(), place)} == {Level.OK}


def test_a_finding_without_a_command_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="says what mends it"):
        wrong("Redis", "it is away", "")
    with pytest.raises(ValueError, match="says what mends it"):
        Finding(Level.OK, "Redis", "well", "mend")
    assert ok("Redis", "well").mend == ""


def scheduler_of(told: DiagnosisView) -> ProgramView:
    return told["programs"][2]


def _away(told: DiagnosisView) -> None:
    told["programs"][1] = program_away("planner", "failed to connect", answer_ms=3)


def _redis(told: DiagnosisView) -> None:
    redis = scheduler_of(told)["dependencies"][2]
    redis["problem"], redis["ahead_ms"] = "Redis does not answer", None


def _bucket(told: DiagnosisView) -> None:
    told["programs"][1]["dependencies"][1]["problem"] = "there is no such bucket"


def _role(told: DiagnosisView) -> None:
    told["programs"][1]["dependencies"][0]["problem"] = "the planner's role in the database may not do that: no"


def _older(told: DiagnosisView) -> None:
    told["programs"][1]["schema_state"] = {"revision": "0006", "own": "0007", "oldest_program": "0005"}


def _none_yet(told: DiagnosisView) -> None:
    told["programs"][0]["schema_state"] = {"revision": "", "own": "0001", "oldest_program": None}


def _too_new(told: DiagnosisView) -> None:
    told["programs"][1]["schema_state"] = {"revision": "0009", "own": "0007", "oldest_program": "0008"}


def _unknown(told: DiagnosisView) -> None:
    told["programs"][1]["schema_state"] = {"revision": "0009", "own": "0007", "oldest_program": None}


def _clock(ahead_ms: int) -> Callable[[DiagnosisView], None]:
    def change(told: DiagnosisView) -> None:
        scheduler_of(told)["ahead_ms"] = ahead_ms

    return change


def _database_clock(told: DiagnosisView) -> None:
    told["programs"][1]["dependencies"][0]["ahead_ms"] = -7000


def _ends(days: float, whose: str = "end_time") -> Callable[[DiagnosisView], None]:
    def change(told: DiagnosisView) -> None:
        dates = told["programs"][3]["certificate"]
        assert dates is not None
        dates.update({whose: iso(days)})  # type: ignore[misc]

    return change


def _refused(told: DiagnosisView) -> None:
    dates = told["programs"][3]["certificate"]
    assert dates is not None
    dates["refused"] = "tls.key is of another certificate"


def _lacks(told: DiagnosisView) -> None:
    scheduler_of(told)["rights"][1]["allowed"] = False


def _beyond(told: DiagnosisView) -> None:
    scheduler_of(told)["rights"][2]["allowed"] = True


def _owner(told: DiagnosisView) -> None:
    scheduler_of(told)["dependencies"][3]["problem"] = "the ConfigMap pen-workers can't be read: not found"


def _versions(told: DiagnosisView) -> None:
    told["programs"][1]["version"] = "1.1.0"


def _class(code: str) -> Callable[[DiagnosisView], None]:
    def change(told: DiagnosisView) -> None:
        told["classes"] = [
            {
                "name": "gpu",
                "slots": 1,
                "max": 4,
                "wanted": 2,
                "workers": 0,
                "working": 0,
                "draining": 0,
                "leased": 0,
                "claimable": 5,
                "trouble": code,
                "text": "it is so",
                "advice": "do this",
                "since_time": None,
            }
        ]

    return change


WRONG: dict[str, tuple[Callable[[DiagnosisView], None], Level, str, str, str]] = {
    "away": (_away, Level.FAIL, "planner", "does not answer: failed to connect", "kubectl -n batch logs deployment/"),
    "redis": (_redis, Level.FAIL, "scheduler Redis", "Redis does not answer", "--set redis.url="),
    "bucket": (_bucket, Level.FAIL, "planner blobs", "no such bucket", "--set s3.url="),
    "role": (_role, Level.FAIL, "planner database", "may not do that", "penstock migrate --print-roles | psql"),
    "older": (_older, Level.FAIL, "planner schema", "has 0006, and this version needs 0007", "delete job -l"),
    "none yet": (_none_yet, Level.FAIL, "gateway schema", "has none yet", "delete job -l"),
    "too new": (_too_new, Level.FAIL, "planner schema", "needs programs of 0008 or newer", "--set image.tag="),
    "unknown": (_unknown, Level.FAIL, "planner schema", "this version does not know", "--set image.tag="),
    "clock warns": (_clock(2000), Level.WARN, "scheduler clock", "2.0 s before the gateway's", "chronyc makestep"),
    "clock fails": (_clock(-6000), Level.FAIL, "scheduler clock", "6.0 s behind the gateway's", "chronyc makestep"),
    "database clock": (_database_clock, Level.FAIL, "planner database clock", "7.0 s behind", "chronyc makestep"),
    "13 days": (_ends(13.2), Level.WARN, "analyzer certificate", "13 days left", "tls.chart.generation="),
    "5 days": (_ends(5.2), Level.FAIL, "analyzer certificate", "5 days left", "tls.chart.generation="),
    "ended": (_ends(-1), Level.FAIL, "analyzer certificate", "it ended on", "tls.chart.generation="),
    "authority": (_ends(6, "authority_end_time"), Level.FAIL, "analyzer authority", "6 days", "tls.chart.generation="),
    "refused": (_refused, Level.FAIL, "analyzer certificate", "can't be used", "tls.chart.generation="),
    "lacks": (
        _lacks,
        Level.FAIL,
        "scheduler rights",
        "lacks what the chart's Role gives: delete pods",
        "--force-conflicts",
    ),
    "beyond": (_beyond, Level.FAIL, "scheduler rights", "may more", "kubectl get rolebindings"),
    "owner": (_owner, Level.FAIL, "scheduler API server", "can't be read", "helm upgrade pen charts/penstock -n batch"),
    "versions": (_versions, Level.WARN, "versions", "1.1.0: planner; 1.2.0: gateway", "rollout status"),
    "class image": (_class("image"), Level.FAIL, "class gpu", "it is so; do this", "worker.classes.gpu.image="),
    "class waits": (_class("unschedulable"), Level.WARN, "class gpu", "it is so", "worker.classes.gpu.resources"),
    "class admission": (
        _class("admission"),
        *(Level.FAIL, "class gpu", "it is so", "worker.classes.gpu.KEY=VALUE   # what it names; annotations that a"),
    ),
    "class template": (_class("template"), Level.FAIL, "class gpu", "it is so", "worker.classes.gpu.KEY=VALUE"),
    "class rights": (_class("rights"), Level.FAIL, "class gpu", "it is so", "--force-conflicts"),
    "class quota": (_class("quota"), Level.FAIL, "class gpu", "it is so", "kubectl -n pen-workers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_finding_with_its_command(name: str) -> None:
    change, level, what, text, mend = WRONG[name]
    told = copy.deepcopy(well())
    change(told)
    found = [one for one in judged(told) if one.level is not Level.OK]
    assert [(one.level, one.what) for one in found] == [(level, what)]
    assert text in found[0].text
    assert mend in found[0].mend
    # Without a cluster there is a command, too.
    elsewhere = [one for one in judged(told, Place()) if one.level is not Level.OK]
    assert [(one.level, one.what) for one in elsewhere] == [(level, what)]
    assert "helm" not in elsewhere[0].mend


def test_the_time_of_a_slow_answer_is_not_held_against_a_clock() -> None:
    told = well()
    scheduler_of(told)["ahead_ms"], scheduler_of(told)["answer_ms"] = -2500, 4000
    assert {one.level for one in judged(told)} == {Level.OK}


def test_a_schema_that_an_older_program_may_work_on_is_well() -> None:
    told = well()
    told["programs"][1]["schema_state"] = {"revision": "0008", "own": "0007", "oldest_program": "0007"}
    assert {one.level for one in judged(told)} == {Level.OK}


def test_a_command_of_another_version_is_told() -> None:
    (found,) = (
        one for one in judge_programs(well(), Place(), own_version="1.3.0", now_ms=NOW_MS) if one.what == "versions"
    )
    assert (found.level, found.mend) == (Level.WARN, "pip install penstock==1.2.0")


def test_classes_that_nobody_could_be_asked_of_were_not_looked_at() -> None:
    told = well()
    told["classes"] = None
    assert [one.what for one in judged(told) if one.level is Level.SKIP] == ["worker classes"]
