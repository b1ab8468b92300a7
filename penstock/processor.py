"""The processor API: the code that turns an item into an outcome.

A processor is a class with a `name`, a `version`, a pydantic model of its parameters, and one of two methods:

    class WordCount(Processor[Parameters]):
        name = "word-count"
        version = "1"
        parameters_type = Parameters

        async def process(self, item: WorkItem, context: Context[Parameters]) -> Result:
            return Result({"words": len(item.payload["text"].split())})

or, for work that is cheaper together, `batch_size > 1` and `process_batch(items, context) -> list[Result | Failure]`,
one answer an item, in order. It is found by the entry point group `penstock.processors` of an installed distribution.

Its failure story: raising `ProcessorError` (or anything else) fails the item, or every item of the batch that has no
answer; the scheduler tries it again after a back-off unless `permanent`. `ServiceUnavailable` costs no try. A worker
may die at any instant and the item is then executed again elsewhere, so effects outside must be idempotent; work that
can't be is not `repeatable`, and ends failed, kind `unknown`, when nobody knows how it ended. When
`context.cancelled` is set no outcome of the call will be accepted: stop; a call that goes on is cancelled after 5 s.
Money is counted as `context.spent` and the outcomes tell it, however the item ends.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib.metadata
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import common_pb2

__all__ = [
    "ENTRY_POINT_GROUP",
    "INLINE_BYTES",
    "BudgetRefused",
    "Context",
    "Deferred",
    "Failure",
    "Mode",
    "Outcome",
    "Parameters",
    "Processor",
    "ProcessorError",
    "Result",
    "ServiceUnavailable",
    "Spending",
    "Throttled",
    "WorkItem",
    "load_processor",
    "processor_names",
    "validate_parameters",
]

ENTRY_POINT_GROUP = "penstock.processors"

INLINE_BYTES = 64_000
"""Payloads and results above this travel as blobs."""


class Parameters(BaseModel):
    """Base of a processor's parameters: frozen, and unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


P = TypeVar("P", bound=Parameters)


Mode = Literal["work", "heal", "confirm"]
"""What an item was leased for: its work; healing it after a failure; confirming that its work is done."""


class WorkItem(NamedTuple):
    """One item as the plan holds it. `payload` is its JSON object; `attempt` its fence.

    context: in mode heal how it failed (kind, error, …), in mode confirm the result that its work claims; saved: what
    the attempt that deferred it had saved; reserved_micros: what it may cost, in millionths of a dollar, None: no
    bound; heals: how often it was leased to be healed, this time included.
    """

    run_id: str
    stage: int
    seq: int
    key: str
    group: str
    payload: Mapping[str, Any]
    attempt: int = 1
    tries: int = 0
    mode: Mode = "work"
    context: Any = None
    saved: Any = None
    reserved_micros: int | None = None
    heals: int = 0


@dataclass(frozen=True)
class Result:
    """A completed item: `value` is JSON, kept as a blob by itself above INLINE_BYTES; `blob` is what else there is,
    stored by `context.blobs`, and then `value` has at most INLINE_BYTES.

    Of every outcome: `cost_micros` is what the attempt cost, in millionths of a dollar, and `used` what it took of the
    limits' dimensions, e.g. {"tokens": 1200}; both beside what `context.spent` was told.
    """

    value: Any = None
    blob: common_pb2.BlobRef | None = None
    cost_micros: int = 0
    used: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Failure:
    """A failed item: a sentence for people, a kind (penstock.words.FAILURE_KINDS); permanent: never tried again;
    fingerprint: what makes failures equal, empty: made from kind and message; cost_unknown: what it cost beside what is
    told here nobody knows: where items cost money, what was reserved counts as spent.
    """

    message: str
    kind: str = "item"
    permanent: bool = False
    no_try: bool = False
    fingerprint: str = ""
    cost_micros: int = 0
    used: Mapping[str, int] | None = None
    cost_unknown: bool = False


@dataclass(frozen=True)
class Throttled:
    """A limit outside said no: `key`, one of the item's limit keys, closes for so long (0: as long as its own settings
    say). The item goes back to its place and no try is counted.
    """

    key: str
    retry_after_seconds: float = 0.0
    message: str = ""
    cost_micros: int = 0
    used: Mapping[str, int] | None = None


@dataclass(frozen=True)
class Deferred:
    """The item waits for something outside, until a time or for so many seconds, and holds no worker meanwhile. Its
    next lease has `saved` (JSON, at most INLINE_BYTES). No try is counted.
    """

    until: dt.datetime | None = None
    after_seconds: float = 0.0
    saved: Any = None
    cost_micros: int = 0
    used: Mapping[str, int] | None = None


Outcome = Result | Failure | Throttled | Deferred


class ProcessorError(Exception):
    """Raised by a processor to fail the item at hand."""

    def __init__(self, message: str, *, kind: str = "item", permanent: bool = False, fingerprint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.permanent = permanent
        self.fingerprint = fingerprint


class ServiceUnavailable(ProcessorError):
    """A part of Penstock (planner, analyzer, blob store) did not answer: the item is tried again and no try is
    counted.
    """


class BudgetRefused(ProcessorError):
    """A top-up has no room under a cap. Not caught, it fails the item, kind `budget`."""

    def __init__(self, message: str) -> None:
        super().__init__(message, kind="budget")


@dataclass
class Spending:
    """What an attempt has cost so far, and what it took of the limits' dimensions."""

    micros: int = 0
    used: dict[str, int] = field(default_factory=dict)


async def _no_budget(item: WorkItem, micros: int) -> int:
    return (item.reserved_micros or 0) + micros


@dataclass
class Context(Generic[P]):
    """What a processor is given with its items.

    deadline: `asyncio` loop time at which the worker gives up on the call; services: the gRPC channels `planner`,
    `scheduler` and `analyzer`, and the `extractor` that takes the text of PDF, DOCX and HTML files; cancelled: set when
    every lease of the call was revoked; spending: what `spent` was told, by seq; environment: those names that the
    processor asks for (`environment_needs`, `environment_allows`) and its worker has, with their values.
    """

    parameters: P
    blobs: BlobStore
    deadline: float
    services: Mapping[str, Any] = field(default_factory=dict)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    on_progress: Callable[[float, str], None] = lambda share, phase: None
    on_top_up: Callable[[WorkItem, int], Awaitable[int]] = _no_budget
    spending: dict[int, Spending] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def progress(self, share: float, phase: str = "") -> None:
        """Tells how far it is: `share` from 0 to 1, `phase` in a word or two. Shown with the running item."""
        self.on_progress(min(1.0, max(0.0, share)), phase)  # in this order NaN is 0

    def spent(self, item: WorkItem, micros: int, used: Mapping[str, int] | None = None) -> None:
        """Notes what a call to a provider has cost, as soon as it is known: it counts however the item ends. For
        processors that make several calls an item; a single one's cost may come with the outcome instead.
        """
        so_far = self.spending.setdefault(item.seq, Spending())
        so_far.micros += micros
        for dimension, amount in (used or {}).items():
            so_far.used[dimension] = so_far.used.get(dimension, 0) + amount

    async def top_up(self, item: WorkItem, micros: int) -> int:
        """Reserves so many micro-dollars more for an item; answers what is then reserved in all. Raises BudgetRefused
        when a cap has no room, at once. Where there is no budget all is granted.
        """
        return await self.on_top_up(item, micros)


class Processor(Generic[P]):
    """Base class. One instance lives as long as its worker."""

    name: ClassVar[str]
    version: ClassVar[str]
    parameters_type: ClassVar[type[Parameters]] = Parameters
    batch_size: ClassVar[int] = 1
    """Most items of one call; above 1 `process_batch` is called."""
    concurrency: ClassVar[int] = 0
    """Calls at once in one worker; 0: as many as it has slots."""
    paid: ClassVar[bool] = False
    """Its items cost money: under a budget they start only with a known price."""
    repeatable: ClassVar[bool] = True
    """False: an attempt whose end nobody knows (its worker died, it hung) is not repeated. For what must not be done
    twice: a payment, a push."""
    environment_needs: ClassVar[Sequence[str]] = ()
    """Names that its worker must have: keys of providers, as variables of its environment or keys of its class's
    Secrets. A plan compares names and never looks at values."""
    environment_allows: ClassVar[Sequence[str]] = ()
    """Names that it is given where its worker has them."""

    @classmethod
    def limit_keys(cls, payload: Mapping[str, Any], parameters: P) -> Sequence[str]:
        """The limits that an item shares with all others that name them, e.g. `provider:anthropic` and
        `domain:example.org`: at most 8, each `kind:name`. Pure: the planner asks once, when a plan is made.
        """
        return ()

    @classmethod
    def limit_fields(cls, parameters: P) -> Sequence[str] | None:
        """The fields of the payload, at its top level, that alone decide the limit keys: then the planner asks once
        for all items that have them alike, with a payload of these fields only. None: it asks for each item.
        """
        return None

    @classmethod
    def is_paid(cls, parameters: P) -> bool:
        """Whether items with these parameters cost money."""
        return cls.paid

    @classmethod
    def is_repeatable(cls, parameters: P) -> bool:
        """Whether an attempt with these parameters may be repeated when nobody knows how it ended."""
        return cls.repeatable

    async def process(self, item: WorkItem, context: Context[P]) -> Outcome:
        raise NotImplementedError

    async def process_batch(self, items: Sequence[WorkItem], context: Context[P]) -> Sequence[Outcome]:
        return [await self.process(item, context) for item in items]


def _entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    return {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}


def processor_names() -> list[str]:
    """The names of all installed processors, sorted."""
    return sorted(_entry_points())


def load_processor(name: str) -> type[Processor[Any]]:
    """The class of an installed processor. Raises NotFound that lists the installed ones."""
    points = _entry_points()
    if name not in points:
        raise NotFound(
            f"no processor named {name!r}; installed are: {', '.join(sorted(points))}", code="processor_not_found"
        )
    loaded = points[name].load()
    if not (isinstance(loaded, type) and issubclass(loaded, Processor)):
        raise InvalidInput(f"entry point {name!r} is no Processor class: {loaded!r}", code="bad_processor")
    if loaded.name != name:
        raise InvalidInput(
            f"entry point {name!r} names a processor that calls itself {loaded.name!r}", code="bad_processor"
        )
    if loaded.batch_size < 1 or loaded.concurrency < 0:
        raise InvalidInput(
            f"processor {name!r} has batch_size {loaded.batch_size} and concurrency {loaded.concurrency}; "
            "at least 1 and 0 are possible",
            code="bad_processor",
        )
    return loaded


def validate_parameters(processor: type[Processor[Any]], values: Mapping[str, object]) -> Parameters:
    """Typed parameters with every default filled in. Raises InvalidInput that lists every problem."""
    try:
        return processor.parameters_type.model_validate(dict(values))
    except ValidationError as error:
        known = ", ".join(processor.parameters_type.model_fields) or "none"
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'parameters'}: {e['msg'].removeprefix('Value error, ')}"
            for e in error.errors()
        )
        raise InvalidInput(
            f"parameters of processor {processor.name!r}: {problems} (its parameters: {known})", code="bad_parameters"
        ) from None
