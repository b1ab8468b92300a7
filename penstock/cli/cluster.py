"""`penstock cluster doctor`: looks at everything that has to be right, and names the command that mends what is not.

Two parts: what the programs say of themselves, by the gateway (PENSTOCK_URL, or a data folder), and what the API server
says of the release, by the operator's kubeconfig. Either goes without the other; what was not looked at is told, with
the reason. Nothing is changed but a blob of a few bytes, which each program writes and removes.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, carry_out

if TYPE_CHECKING:
    from penstock.doctor.findings import Finding
    from penstock.doctor.place import Place, Release

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="A release in a cluster, or a Penstock on this machine, as a whole.")

DIAGNOSIS_SECONDS = 30.0


@app.command()
def doctor(
    release: Annotated[
        str, typer.Option("--release", metavar="NAME", help="Helm's release; else the one that there is.")
    ] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", metavar="NAMESPACE", help="Where it stands.")] = "",
    context: Annotated[str, typer.Option("--context", metavar="NAME", help="Of the kubeconfig; else its own.")] = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at the programs, what they need, and the release around them; each finding with the command that mends it.

    Every check is one line: ok, warn, fail, or — for what was not looked at. Exit codes: 0 all is well, or only warns;
    1 something fails; 2 bad usage.

    Example: penstock cluster doctor --namespace penstock
    """

    async def work() -> int:
        from penstock.doctor.findings import failed

        findings = await asyncio.to_thread(_findings, release, namespace, context, data)
        if as_json:
            show.print_json([_view(one) for one in findings])
        else:
            _print(findings)
        return 1 if failed(findings) else 0

    carry_out(work())


def _findings(name: str, namespace: str, context: str, data: Path | None) -> list[Finding]:
    from penstock.doctor.place import Place

    about_cluster, release, pods = _cluster(name, namespace, context)
    return [*_programs(data, Place(release), pods), *about_cluster]


def _cluster(name: str, namespace: str, context: str) -> tuple[list[Finding], Release | None, Mapping[str, int]]:
    """What the API server says, and how many pods each program may have. Raises InvalidInput, NotFound."""
    from penstock.doctor.cluster import judge_cluster
    from penstock.doctor.connections import most_pods
    from penstock.doctor.findings import skipped
    from penstock.doctor.kube import Away, Kube, Refused
    from penstock.doctor.reading import find_release, read_cluster

    release = None
    try:
        kube = Kube(context)
        release = find_release(kube, name=name, namespace=namespace)
        if release is None:
            return [skipped("cluster", "there is no release of Penstock in it that may be seen")], None, {}
        facts = read_cluster(kube, release)
        release = facts.release
        return judge_cluster(facts, now_ms=_now_ms()), release, most_pods(facts)
    except (Away, Refused) as error:
        return [skipped("cluster", str(error))], release, {}
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        why = f"what the API server answers can't be read ({type(error).__name__}: {error})"
        return [skipped("cluster", why)], release, {}


def _programs(data: Path | None, place: Place, pods: Mapping[str, int]) -> list[Finding]:
    """What the programs say of themselves, through the gateway."""
    from penstock.client.discovery import find_gateway
    from penstock.doctor.connections import judge_connections
    from penstock.doctor.findings import ok, wrong
    from penstock.doctor.programs import judge_clock, judge_programs
    from penstock.runtime.errors import PenstockError, PermissionDenied, Unauthenticated

    began = time.monotonic()
    try:
        gateway = find_gateway(data=data)
        told = gateway.ask("GET", "/api/v1/diagnosis", seconds=DIAGNOSIS_SECONDS)
    except (Unauthenticated, PermissionDenied) as error:
        return [wrong("gateway", error.message, _token(place))]
    except PenstockError as error:
        return [wrong("gateway", error.message, _reach(place))]
    from penstock import __version__

    passed_ms = round((time.monotonic() - began) * 1000)
    now_ms = _now_ms()
    # The gateway read its clock when it had everything: right before its answer came.
    clock = judge_clock("gateway clock", told["now_ms"] - now_ms, min(passed_ms, 1000), "this machine's")
    return [
        ok("gateway reached", f"{gateway.url} in {passed_ms} ms"),
        *clock,
        *judge_programs(told, place, own_version=__version__, now_ms=now_ms),  # type: ignore[arg-type]
        *judge_connections(told["programs"], pods, place),
    ]


def _reach(place: Place) -> str:
    if place.release is None:
        if not os.environ.get("PENSTOCK_URL"):
            return "penstock up"
        forward = "kubectl -n NAMESPACE port-forward service/RELEASE-gateway 8420:http"
        return f"export PENSTOCK_URL=http://127.0.0.1:8420   # in a cluster after: {forward} &"
    name = place.release.name
    forward = place.release.kubectl(f"port-forward service/{name}-gateway 8420:http")
    return f"{forward} & export PENSTOCK_URL=http://127.0.0.1:8420"


def _token(place: Place) -> str:
    if place.release is None:
        return "export PENSTOCK_TOKEN=$(cat FILE)   # of an operator: penstock tokens create NAME --role operator"
    return f"export PENSTOCK_TOKEN={place.release.token()}"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _view(one: Finding) -> dict[str, str | None]:
    words = {"ok": "ok", "warn": "warn", "fail": "fail"}
    level = words.get(one.level.value, "skipped")
    return {"level": level, "check": one.what, "text": one.text, "mend": one.mend or None}


def _print(findings: Sequence[Finding]) -> None:
    width = max(len(show.text(one.what)) for one in findings)
    counts: dict[str, int] = {}
    for one in findings:
        counts[one.level.value] = counts.get(one.level.value, 0) + 1
        show.say(f"{one.level.value:<4}  {show.text(one.what):<{width}}  {show.text(one.text)}")
        if one.mend:
            show.say(f"      {'':<{width}}  mend: {show.text(one.mend)}")
    told = {"ok": "ok", "warn": "warn", "fail": "fail", "—": "not looked at"}
    show.say(", ".join(f"{counts[level]} {word}" for level, word in told.items() if level in counts))
