"""The stages of a plan: defaults, ranges, ids. All that is wrong with a request is told at once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

__all__ = [
    "COLLECTION_KEY",
    "DEFAULT_CLASS",
    "StageRequest",
    "StageSettings",
    "document_stages",
    "plan_id",
    "range_problems",
    "with_defaults",
]

COLLECTION_KEY = "collection"
DEFAULT_CLASS = "default"

_DEFAULTS = {"concurrency": 64, "max_tries": 5, "max_run_seconds": 600}
_RANGES = {"concurrency": (1, 10_000), "max_tries": (1, 100), "max_run_seconds": (1, 7 * 86_400)}


@dataclass(frozen=True)
class StageRequest:
    """What a request says of a stage; 0 and empty mean the default. `parameters` is a JSON object, `rules` a
    StageRules message as bytes.
    """

    processor: str
    parameters: Mapping[str, Any]
    concurrency: int = 0
    max_tries: int = 0
    max_run_seconds: int = 0
    worker_class: str = ""
    rules: bytes = b""


@dataclass(frozen=True)
class StageSettings:
    """A stage as its plan keeps it: every default filled in. `rules` is the JSON mapping of its StageRules, without
    what is not set; `paid` and `repeatable` are what its processor says of itself.
    """

    processor: str
    processor_version: str
    parameters: Mapping[str, Any]
    concurrency: int
    max_tries: int
    max_run_seconds: int
    worker_class: str
    rules: Mapping[str, Any] = field(default_factory=dict)
    paid: bool = False
    repeatable: bool = True


def document_stages(granularity: str) -> list[StageRequest]:
    """The two stages of a plan for documents. The collection is one long item."""
    return [
        StageRequest("document", {"granularity": granularity}, concurrency=256),
        StageRequest("collection", {}, concurrency=1, max_run_seconds=3_600),
    ]


def range_problems(number: int, stage: StageRequest) -> list[str]:
    """Sentences about numbers out of range, empty when all is well."""
    problems = []
    for name, (least, most) in _RANGES.items():
        value = getattr(stage, name)
        if value != 0 and not least <= value <= most:
            problems.append(f"stage {number}: {name} is {value}, it may be {least}-{most} (0: {_DEFAULTS[name]})")
    return problems


def with_defaults(
    stage: StageRequest,
    *,
    version: str,
    parameters: Mapping[str, Any],
    rules: Mapping[str, Any],
    paid: bool,
    repeatable: bool,
) -> StageSettings:
    return StageSettings(
        processor=stage.processor,
        processor_version=version,
        parameters=parameters,
        concurrency=stage.concurrency or _DEFAULTS["concurrency"],
        max_tries=stage.max_tries or _DEFAULTS["max_tries"],
        max_run_seconds=stage.max_run_seconds or _DEFAULTS["max_run_seconds"],
        worker_class=stage.worker_class or DEFAULT_CLASS,
        rules=rules,
        paid=paid,
        repeatable=repeatable,
    )


def plan_id(
    source_id: str,
    granularity: str,
    stages: Sequence[StageSettings],
    *,
    selection: Mapping[str, object] | None = None,
) -> str:
    """A hash over what will run: source version, selection, order, stages and their settings; not name, who or when.

    What is not set is not hashed, so that a plan keeps its id when there is more that could be set.
    """
    content: dict[str, object] = {
        "format": 1,
        "source": source_id,
        "order": "source",
        "granularity": granularity,
        "stages": [
            [
                s.processor,
                s.processor_version,
                s.parameters,
                s.concurrency,
                s.max_tries,
                s.max_run_seconds,
                s.worker_class,
                *([s.rules] if s.rules else []),
            ]
            for s in stages
        ],
    }
    if selection is not None:
        content["selection"] = selection
    return "plan-" + hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
