"""The fields of a declaration, with their types, bounds and defaults; what depends on several fields is checked by
`penstock.declared.declaration`.

`docs/processors.md` tells what each is for, and a test holds that it names all of them.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from penstock.declared.templates import Template
from penstock.words import FAILURE_KINDS

__all__ = ["IN_ARGV", "IN_LIMITS", "NAME", "Command", "Cost", "Environment", "ExitRule", "Form", "Parameter"]

IN_ARGV = (
    *("payload", "parameters", "key", "group", "run", "stage", "seq", "attempt", "mode"),
    *("input", "output", "folder", "here"),
)
"""What placeholders of arguments may name, and those of limit keys, which are asked for when a plan is made."""
IN_LIMITS = ("payload", "parameters")

MIB = 1 << 20
DAY = 86_400.0

NAME = re.compile("[a-z][a-z0-9_-]{0,62}")
_ENVIRONMENT_NAME = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_LOST = ("worker_lost", "out_of_memory", "evicted", "preempted", "node_lost")
_KINDS = ("completed", "deferred", *(kind for kind in FAILURE_KINDS if kind not in _LOST))


def _environment_name(name: str) -> str:
    if not _ENVIRONMENT_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of an environment variable")
    if name.startswith("PENSTOCK_"):
        raise ValueError(f"{name}: Penstock's own settings are not for programs")
    return name


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("has a NUL character")
    return text


def _argument(text: str) -> str:
    Template.parse(_no_nul(text), IN_ARGV)
    return text


def _limit(text: str) -> str:
    Template.parse(text, IN_LIMITS)
    return text


def _exit_code(code: str) -> str:
    if not re.fullmatch("[1-9][0-9]{0,2}", code) or int(code) > 255:
        raise ValueError(f"{code!r} is no exit code: 1-255 are (0 is completed)")
    return code


def _kind(kind: str) -> str:
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} is none; there are: {', '.join(_KINDS)}")
    return kind


EnvironmentName = Annotated[str, AfterValidator(_environment_name)]
Text = Annotated[str, AfterValidator(_no_nul)]
Limit = Annotated[str, Field(min_length=3, max_length=400), AfterValidator(_limit)]
Arguments = Annotated[list[Annotated[str, AfterValidator(_argument)]], Field(min_length=1, max_length=1_000)]
Place = Annotated[str, Field(pattern=r"^[^.\s]+(\.[^.\s]+)*$")]
"""In the output's JSON: `usage.tokens`."""


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=False)


class Environment(Table):
    """Names that are passed through where the worker has them (`allow`), or that it must have (`needs`), and values."""

    allow: list[EnvironmentName] = Field(default_factory=list)
    needs: list[EnvironmentName] = Field(default_factory=list)
    set: dict[EnvironmentName, Text] = Field(default_factory=dict)


class Parameter(Table):
    """One parameter: JSON Schema's words for its type and bounds; without a default it must be given."""

    type: Literal["string", "integer", "number", "boolean"]
    description: str = ""
    default: Any = None
    enum: list[Any] | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None


class Cost(Table):
    """Where the output tells what an item cost: in dollars, or in millionths of one; and what it used."""

    dollars: Place | None = None
    micros: Place | None = None
    used: dict[str, Place] = Field(default_factory=dict, max_length=16)


class ExitRule(Table):
    """What an exit code means."""

    kind: Annotated[str, AfterValidator(_kind)]
    permanent: bool = False
    limit: str = ""
    wait_seconds: float = Field(0.0, ge=0, le=366 * DAY)
    wait: Place | None = None
    """In the output: seconds, instead of wait_seconds."""
    saved: Place | None = None
    """In the output: what a deferred item's next lease is given."""


class Command(Table):
    argv: Arguments
    shell: bool = False


class Form(Table):
    name: str = Field(pattern=f"^{NAME.pattern}$")
    version: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,31}$")
    kind: Literal["command"]
    description: str = Field(max_length=1_000)
    argv: Arguments
    shell: bool = False
    input: Literal["stdin", "file"] = "stdin"
    output: Literal["stdout", "file"] = "stdout"
    wall_seconds: float = Field(600.0, ge=0.1, le=7 * DAY)
    stop_seconds: float = Field(2.0, ge=0, le=60)
    cpu_seconds: int = Field(0, ge=0, le=int(7 * DAY))
    memory_bytes: int = Field(4096 * MIB, ge=0, le=1 << 50)
    file_bytes: int = Field(1024 * MIB, ge=0, le=1 << 50)
    output_bytes: int = Field(8 * MIB, ge=1, le=256 * MIB)
    log_bytes: int = Field(1 * MIB, ge=4096, le=64 * MIB)
    keep_log: Literal["failed", "always"] = "failed"
    concurrency: int = Field(0, ge=0, le=10_000)
    limits: list[Limit] = Field(default_factory=list, max_length=8)
    paid: bool = False
    repeatable: bool = True
    environment: Environment = Field(default_factory=Environment)
    parameters: dict[str, Parameter] = Field(default_factory=dict, max_length=100)
    payload: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] = Field(default_factory=dict)
    cost: Cost | None = None
    exit: dict[Annotated[str, AfterValidator(_exit_code)], ExitRule] = Field(default_factory=dict)
    heal: Command | None = None
    confirm: Command | None = None
