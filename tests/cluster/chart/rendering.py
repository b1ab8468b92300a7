"""Helm on the chart: values in, objects out. The real program; without it tests are skipped by name.

`render` remembers what it rendered, since one render serves many rules; the objects are copies that a test may change.
"""

from __future__ import annotations

import copy
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import tools

__all__ = ["CHART", "HERE", "RELEASE", "VALUES", "Object", "Refused", "helm", "notes", "of_kind", "pod_specs"]
__all__ += ["render", "text", "values"]

HERE = Path(__file__).resolve().parent
CHART = HERE.parent.parent.parent / "charts" / "penstock"
VALUES = tuple(sorted(path.stem for path in (HERE / "values").glob("*.yaml")))
RELEASE, NAMESPACE = "demo", "penstock"

Object = dict[str, Any]


class Refused(Exception):
    """What Helm said instead of rendering."""


@functools.cache
def _program() -> str:
    try:
        return str(tools.program("helm"))
    except tools.BuildFailed as error:
        found = shutil.which("helm")
        if found is None:
            if os.environ.get("PEN_CI"):
                raise
            pytest.skip(f"the chart's tests: {error}")
        return found


def helm(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Its standard output. Raises Refused with what it said on standard error."""
    done = subprocess.run(
        [_program(), *arguments],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    if done.returncode:
        raise Refused(f"{done.stdout}{done.stderr}")
    return done.stdout


@functools.cache
def text(
    *names: str, release: str = RELEASE, namespace: str = NAMESPACE, sets: tuple[str, ...] = (), chart: Path = CHART
) -> str:
    """All that is rendered from the values files of these names, and `--set-json` of each of `sets`."""
    files = [word for name in names for word in ("--values", str(HERE / "values" / f"{name}.yaml"))]
    more = [word for one in sets for word in ("--set-json", one)]
    return helm("template", release, str(chart), "--namespace", namespace, *files, *more)


def notes(*names: str, sets: tuple[str, ...] = ()) -> str:
    """What Helm tells who installs it; no cluster is asked."""
    words = ("install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--dry-run=client")
    more = [word for one in sets for word in ("--set-json", one)]
    return helm(*words, *(word for name in names for word in values(name)), *more).partition("\nNOTES:\n")[2]


def values(name: str) -> list[str]:
    """As words of a command."""
    return ["--values", str(HERE / "values" / f"{name}.yaml")]


def render(*names: str, **options: Any) -> list[Object]:
    """The objects of it, hooks and tests too."""
    return copy.deepcopy(_objects(text(*names, **options)))


@functools.cache
def _objects(rendered: str) -> list[Object]:
    return [one for one in yaml.load_all(rendered, Loader=yaml.CSafeLoader) if one]


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    return [one for one in objects if one["kind"] in kinds]


def pod_specs(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """(kind/name, spec of its pods) of all that makes pods."""
    for one in objects:
        if one["kind"] in ("Deployment", "Job"):
            yield f"{one['kind']}/{one['metadata']['name']}", one["spec"]["template"]["spec"]
        elif one["kind"] == "Pod":
            yield f"Pod/{one['metadata']['name']}", one["spec"]
