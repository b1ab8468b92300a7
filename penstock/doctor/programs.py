"""Judges what the programs say of themselves: who answers, versions, schemas, stores, clocks, certificates, rights.

Pure. Bounds: clocks that are a second apart make logs and certificates hard to read, and by five seconds, the margin
that a worker leaves before the end of its lease, whoever compares times of two machines is wrong. The time that a look
took is not held against a clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from penstock.client.diagnosis_views import DependencyView, DiagnosisView, ProgramView, RightView, SchemaView
from penstock.client.worker_views import WorkerClassView
from penstock.doctor.certificates import judge_dates
from penstock.doctor.findings import Finding, ok, skipped, wrong
from penstock.doctor.place import Place

__all__ = ["FAIL_SECONDS", "WARN_SECONDS", "judge_clock", "judge_programs"]

WARN_SECONDS, FAIL_SECONDS = 1.0, 5.0
SYNCHRONISE = "sudo chronyc makestep"

_NAMES = {"sql": "database", "redis": "Redis", "blobs": "blobs", "kubernetes": "API server", "rights": "rights"}
_ONLY_WARN = frozenset({"unschedulable", "gated", "api", "pending"})
"""Troubles of a class that may pass by themselves."""


def judge_programs(told: DiagnosisView, place: Place, *, own_version: str, now_ms: int) -> list[Finding]:
    """own_version: of who asks; now_ms: its clock."""
    findings: list[Finding] = []
    for program in told["programs"]:
        findings += _program(program, place, now_ms=now_ms)
    findings += _versions(told["programs"], place, own_version)
    findings += _classes(told["classes"], place)
    return findings


def _program(told: ProgramView, place: Place, *, now_ms: int) -> Iterator[Finding]:
    name = told["program"]
    if told["problem"] is not None:
        yield wrong(name, f"it does not answer: {told['problem']}", place.logs(name))
        return
    yield ok(name, f"version {told['version']}, answers in {told['answer_ms']} ms")
    if told["ahead_ms"] is not None and name != "gateway":
        yield from judge_clock(f"{name} clock", told["ahead_ms"], told["answer_ms"], "the gateway's")
    for one in told["dependencies"]:
        yield from _dependency(name, one, place)
    if (schema := told["schema_state"]) is not None:
        yield _schema(name, schema, place)
    if (dates := told["certificate"]) is not None:
        yield from judge_dates(name, dates, place, now_ms=now_ms)
    if told["rights"]:
        yield from _rights(told["rights"], place)


def _dependency(program: str, told: DependencyView, place: Place) -> Iterator[Finding]:
    what = f"{program} {_NAMES.get(told['name'], told['name'])}"
    if told["problem"] is not None:
        yield wrong(what, told["problem"], _mend(program, told, place))
        return
    yield ok(what, f"answers in {told['answer_ms']} ms")
    if told["ahead_ms"] is not None:
        yield from judge_clock(f"{what} clock", told["ahead_ms"], told["answer_ms"], f"the {program}'s", quiet=True)


def _mend(program: str, told: DependencyView, place: Place) -> str:
    problem = told["problem"] or ""
    release = place.release
    match told["name"]:
        case "sql" if "may not" in problem:
            return "penstock migrate --print-roles | psql OWNER-URL"
        case "sql":
            name = f"PENSTOCK_{program.upper()}__DATABASE_URL"
            return place.setting(f"{program}.postgresql.url=postgresql://USER:PASSWORD@HOST:5432/NAME", f"{name}=URL")
        case "redis":
            return place.setting("redis.url=rediss://:PASSWORD@HOST:6379/0", "PENSTOCK_REDIS_URL=URL")
        case "blobs":
            return place.setting("s3.url=s3://BUCKET,s3.endpoint=URL", "PENSTOCK_BLOBS_URL=s3://BUCKET")
        case _ if release:
            return release.restore()
    return place.logs(program)


def judge_clock(what: str, ahead_ms: int, answer_ms: int, whose: str, *, quiet: bool = False) -> Iterator[Finding]:
    """quiet: nothing is said of a clock that is right."""
    seconds = max(abs(ahead_ms) - answer_ms, 0) / 1000
    where = "before" if ahead_ms > 0 else "behind"
    if seconds > WARN_SECONDS:
        text = f"{abs(ahead_ms) / 1000:.1f} s {where} {whose}; at most {WARN_SECONDS:g} s is well"
        yield wrong(what, text, f"{SYNCHRONISE}   # on both machines", only_warns=seconds <= FAIL_SECONDS)
    elif not quiet:
        yield ok(what, f"within {max(seconds, 0.1):.1f} s of {whose}")


def _schema(program: str, told: SchemaView, place: Place) -> Finding:
    what = f"{program} schema"
    revision, own = told["revision"], told["own"]
    if revision == own:
        return ok(what, own)
    if revision < own:
        has = f"the database has {revision}" if revision else "the database has none yet"
        return wrong(what, f"{has}, and this version needs {own}", _migrate(place))
    oldest = told["oldest_program"]
    if oldest is not None and own >= oldest:
        return ok(what, f"the database has {revision}, which this version, of {own}, may work on")
    needs = f"needs programs of {oldest} or newer" if oldest else "this version does not know"
    newer = place.release.upgrade("--set image.tag=NEWER") if place.release else "pip install --upgrade penstock"
    return wrong(what, f"the database has {revision}, which {needs}; this one is of {own}", newer)


def _migrate(place: Place) -> str:
    return place.release.migrate() if place.release else "penstock migrate"


def _rights(rights: Sequence[RightView], place: Place) -> Iterator[Finding]:
    what = "scheduler rights"
    lacking = [_right(one) for one in rights if one["wanted"] and not one["allowed"]]
    beyond = [_right(one) for one in rights if one["allowed"] and not one["wanted"]]
    restore = place.release.restore() if place.release else "kubectl apply -f ROLE.yaml"
    if lacking:
        yield wrong(what, f"it lacks what the chart's Role gives: {', '.join(lacking)}", restore)
    if beyond:
        account = f"{place.release.name}-scheduler" if place.release else "scheduler"
        look = f"kubectl get rolebindings,clusterrolebindings -A -o wide | grep {account}   # then delete what is not "
        yield wrong(what, f"it may more than the chart's Role gives: {', '.join(beyond)}", look + "the chart's")
    if not lacking and not beyond:
        yield ok(what, f"what the chart's Role gives, and nothing of {len(rights)} asked besides")


def _right(right: RightView) -> str:
    name = f"/{right['name']}" if right["name"] else ""
    where = f"in {right['namespace']}" if right["namespace"] else "in the whole cluster"
    return f"{right['verb']} {right['resource']}{name} {where}"


def _versions(programs: Sequence[ProgramView], place: Place, own_version: str) -> Iterator[Finding]:
    found: dict[str, list[str]] = {}
    for one in programs:
        if one["version"] is not None:
            found.setdefault(one["version"], []).append(one["program"])
    if len(found) > 1:
        shown = "; ".join(f"{version}: {', '.join(names)}" for version, names in sorted(found.items()))
        wait = "rollout status deployment --timeout=5m"
        mend = place.release.kubectl(wait) if place.release else "penstock up   # after stopping the one that runs"
        yield wrong("versions", f"programs are of several: {shown}", mend, only_warns=True)
    elif found and own_version not in found:
        text = f"this command is of {own_version}, the programs are of {next(iter(found))}"
        yield wrong("versions", text, f"pip install penstock=={next(iter(found))}", only_warns=True)
    elif found:
        yield ok("versions", f"all of {own_version}")


def _classes(classes: Sequence[WorkerClassView] | None, place: Place) -> Iterator[Finding]:
    if classes is None:
        yield skipped("worker classes", "the scheduler does not answer")
        return
    for one in classes:
        what = f"class {one['name']}"
        code = one["trouble"]
        if code is None:
            most = "" if one["max"] is None else f" of at most {one['max']}"
            yield ok(what, f"{one['workers']} workers{most}, {one['wanted']} wanted")
            continue
        text = f"{one['text']}; {one['advice']}"
        yield wrong(what, text, _class_mend(one["name"], code, place), only_warns=code in _ONLY_WARN)


def _class_mend(name: str, code: str, place: Place) -> str:
    release = place.release
    if release is None:
        return f"penstock workers list --class {name} --ended"
    match code:
        case "image":
            return release.upgrade(f"--set worker.classes.{name}.image=REPOSITORY:TAG")
        case "quota":
            return f"kubectl -n {release.workers} describe resourcequota"
        case "unschedulable":
            return release.upgrade(f"--set worker.classes.{name}.resources.requests.cpu=LESS")
        case "container":
            return f"kubectl -n {release.workers} create secret generic NAME --from-file=FILE"
        case "admission" | "template":
            # The policy, a webhook or the API server refuses what the values say: as they are they come back no better.
            others = "what it names; annotations that a webhook adds: worker.annotationsOfOthers"
            return release.upgrade(f"--set worker.classes.{name}.KEY=VALUE   # {others}")
        case "rights" | "namespace":
            return release.restore()
    return release.logs("scheduler")
