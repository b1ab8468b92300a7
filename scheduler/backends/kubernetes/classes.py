"""Worker classes as the chart's file says them: what may be started, and how many.

The file is YAML (JSON is, too): a class's name, then its settings. It may change while the scheduler runs, as mounted
ConfigMaps do: it is read again when it does. One that can't be used is told, and what was read before stays; at the
start it ends the program with one sentence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from penstock.runtime.errors import InvalidInput

__all__ = ["ClassFile", "PodClass", "short_name"]

NAME_CHARACTERS = 20
"""Of a class's name in the names of its pods."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Json = dict[str, Any]


class PodClass(BaseModel):
    """slots: leases of one worker; max: its limit of pods, 0 drains it; egress: what the chart makes walls of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slots: int = Field(32, ge=1, le=10_000)
    max: int = Field(1, ge=0, le=10_000)
    image: str = ""
    resources: Json = Field(default_factory=dict)
    grace_seconds: int = Field(60, ge=5, le=86_400)
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: list[Json] = Field(default_factory=list)
    affinity: Json = Field(default_factory=dict)
    runtime_class: str = ""
    priority_class: str = ""
    queue_name: str = ""
    secrets: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    egress: list[Json] = Field(default_factory=list)


_CLASSES = TypeAdapter(dict[Name, PodClass])


def short_name(worker_class: str) -> str:
    """The part of a class's name that stands in the names of its pods."""
    return worker_class[:NAME_CHARACTERS].rstrip("-")


class ClassFile:
    """`classes` is what the file said when it could last be used; `problem` why it can't be now, or ""."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text: bytes | None = None
        self.classes: dict[str, PodClass] = {}
        self.problem = ""

    def read(self) -> None:
        """Reads it again if it has changed. Raises InvalidInput that lists every problem; what was read stays."""
        try:
            text = self._path.read_bytes()
        except OSError as error:
            raise self._refused(f"{error.strerror}") from error
        if text == self._text:
            if self.problem:
                raise self._refused(self.problem)
            return
        self._text = text
        try:
            self.classes = _parsed(text)
        except ValueError as error:
            raise self._refused(str(error)) from error
        self.problem = ""

    def _refused(self, why: str) -> InvalidInput:
        self.problem = why
        return InvalidInput(f"classes of workers, {self._path}: {why}", code="bad_classes")


def _parsed(text: bytes) -> dict[str, PodClass]:
    import yaml

    try:
        tree = yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"no YAML: {' '.join(str(error).split())}") from error
    try:
        classes = _CLASSES.validate_python(tree)
    except ValidationError as error:
        said = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise ValueError("; ".join(said)) from None
    for name, of_class in classes.items():
        try:
            orjson.dumps(of_class.model_dump())
        except TypeError as error:
            raise ValueError(f"{name}: it can't be told in JSON, as a pod is: {error}") from None
    shortened: dict[str, str] = {}
    for name in classes:
        other = shortened.setdefault(short_name(name), name)
        if other != name:
            raise ValueError(f"{other} and {name} are alike in their first {NAME_CHARACTERS} characters")
    return classes
