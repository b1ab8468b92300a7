"""The processor `command`: an item as JSON into a program that its declaration names, the outcome out of it.

One class is made of each declaration; planner and workers use it as any other. An item that does not fit the program
(its payload, a missing value, an argument that is too long) fails for good before anything is started.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import orjson

from penstock.declared.answers import TAIL_CHARACTERS, outcome_of, plain_text, with_logs
from penstock.declared.declaration import VARIABLE, Argv, Declaration
from penstock.declared.programs import Bounds, Ended, Program, Programs
from penstock.declared.schemas import value_problems
from penstock.declared.templates import MissingValue
from penstock.processor import INLINE_BYTES, Context, Failure, Outcome, Parameters, Processor, Result, WorkItem
from penstock.runtime.environment import Environment
from penstock.runtime.errors import PenstockError

__all__ = ["CommandProcessor", "dry_run", "processor_of"]

ALWAYS_PASSED = ("PATH", "LANG", "LC_ALL", "TZ")
SHELL = "/bin/sh"
_MAX_ARGUMENT_BYTES = 128 << 10
"""Linux takes no longer argument, and none of these and the environment together above some megabytes."""
_PROGRESS = re.compile(r"\s*(?:(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*(%?))(?:\s+(.*))?")


class CommandProcessor(Processor[Parameters]):
    """A program that takes one item."""

    declaration: ClassVar[Declaration]
    programs: ClassVar[Programs]

    async def process(self, item: WorkItem, context: Context[Parameters]) -> Outcome:
        declaration = self.declaration
        if problem := _unfit(declaration, item, context.environment):
            return problem
        parameters = context.parameters.model_dump(mode="json")
        bounds = _bounds(declaration, context.deadline - asyncio.get_running_loop().time())

        def progress(line: bytes) -> None:
            if told := _share(line):
                context.progress(*told)

        program = _program(declaration, item, parameters, bounds, context.environment)
        try:
            ended = await self.programs.run(program, stop=context.cancelled, on_progress=progress)
        except MissingValue as error:
            return Failure(f"its program can't be started: {error}", permanent=True)
        return await _kept(declaration, outcome_of(declaration, item, parameters, ended, bounds), ended, context)


class _LimitedCommand(CommandProcessor):
    """One whose items share limits; of others the planner need not ask."""

    @classmethod
    def limit_keys(cls, payload: Mapping[str, Any], parameters: Parameters) -> Sequence[str]:
        values = {"payload": payload, "parameters": parameters.model_dump(mode="json")}
        keys = [template.filled(values) for template in cls.declaration.limits]
        return [key for key in keys if key is not None]

    @classmethod
    def limit_fields(cls, parameters: Parameters) -> Sequence[str] | None:
        slots = [slot for template in cls.declaration.limits for slot in template.slots]
        return sorted({slot.path[1] for slot in slots if slot.path[0] == "payload"})


def processor_of(declaration: Declaration, programs: Programs) -> type[CommandProcessor]:
    """The class that a declaration makes."""
    form = declaration.form
    return type(
        "DeclaredProcessor",
        (_LimitedCommand if declaration.limits else CommandProcessor,),
        {
            "__doc__": form.description,
            "name": declaration.name,
            "version": declaration.version,
            "parameters_type": declaration.parameters_type,
            "concurrency": form.concurrency,
            "paid": form.paid,
            "repeatable": form.repeatable,
            "environment_needs": tuple(form.environment.needs),
            "environment_allows": (*ALWAYS_PASSED, *form.environment.allow),
            "declaration": declaration,
            "programs": programs,
        },
    )


def dry_run(declaration: Declaration, item: WorkItem, parameters: Parameters) -> dict[str, Any]:
    """What would be started for an item, and under which limits: as JSON. Values of the environment are not shown.

    Raises MissingValue. `problem` is why it would fail before it is started, or null.
    """
    values = parameters.model_dump(mode="json")
    asked = declaration.form.environment
    given = Environment().of((*ALWAYS_PASSED, *asked.allow, *asked.needs))
    program = _program(declaration, item, values, _bounds(declaration, float("inf")), given)
    places = {name: name.upper() for name in ("input", "output", "folder")}
    keys = _LimitedCommand.limit_keys.__func__  # type: ignore[attr-defined]
    problem = _unfit(declaration, item, given)
    return {
        "argv": list(program.argv(places)),
        "environment": sorted(program.environment(places)),
        "input": orjson.loads(program.given),
        "limits": keys(processor_of(declaration, Programs()), item.payload, parameters),
        "problem": problem.message if problem else None,
    }


def _unfit(declaration: Declaration, item: WorkItem, environment: Mapping[str, str]) -> Failure | None:
    """Why nothing is started for an item."""
    if missing := [name for name in declaration.form.environment.needs if name not in environment]:
        text = f"this worker's environment has no {', '.join(missing)}, which {declaration.name} needs"
        return Failure(f"{text}: start it with it", "refused", fingerprint=text[:100])
    schema = declaration.form.payload
    if schema and (problems := value_problems(schema, item.payload, "payload")):
        return Failure("; ".join(problems), permanent=True)
    return None


def _bounds(declaration: Declaration, left_seconds: float) -> Bounds:
    """The declaration's; of a stage that gives less time, so much that the worker still hears how it ended."""
    form = declaration.form
    stop = min(form.stop_seconds, 0.1 * left_seconds)
    return Bounds(
        wall_seconds=max(0.01, min(form.wall_seconds, 0.95 * left_seconds - stop)),
        stop_seconds=stop,
        cpu_seconds=form.cpu_seconds,
        memory_bytes=form.memory_bytes,
        file_bytes=form.file_bytes,
        output_bytes=form.output_bytes,
        log_bytes=form.log_bytes,
    )


def _program(
    declaration: Declaration,
    item: WorkItem,
    parameters: Mapping[str, Any],
    bounds: Bounds,
    passed: Mapping[str, str],
) -> Program:
    form = declaration.form
    chosen = {"heal": declaration.heal, "confirm": declaration.confirm}.get(item.mode) or declaration.work
    values = {
        "payload": item.payload,
        "parameters": parameters,
        "key": item.key,
        "group": item.group,
        "run": item.run_id,
        "stage": item.stage,
        "seq": item.seq,
        "attempt": item.attempt,
        "mode": item.mode,
        "here": declaration.folder,
    }
    return Program(
        argv=lambda places: _argv(chosen, {**values, **places}),
        environment=lambda places: _environment(declaration, chosen, {**values, **places}, passed),
        given=_given(item, parameters),
        from_stdin=form.input == "stdin",
        to_stdout=form.output == "stdout",
        bounds=bounds,
    )


def _given(item: WorkItem, parameters: Mapping[str, Any]) -> bytes:
    told = item._asdict()
    return orjson.dumps({**told, "parameters": parameters})


def _argv(chosen: Argv, values: Mapping[str, Any]) -> list[str]:
    if chosen.script is not None:
        return [SHELL, "-c", chosen.script]
    filled = [template.filled(values) for template in chosen.arguments]
    return [_fitting(text) for text in filled if text is not None]


def _environment(
    declaration: Declaration, chosen: Argv, values: Mapping[str, Any], passed: Mapping[str, str]
) -> dict[str, str]:
    folder = str(values["folder"])
    variables = {f"{VARIABLE}{n}": _fitting(slot.value(values) or "") for n, slot in enumerate(chosen.slots, 1)}
    told = declaration.form.environment.set
    return {"PATH": os.defpath, "HOME": folder, "TMPDIR": folder, **passed, **told, **variables}


def _fitting(text: str) -> str:
    size = len(text.encode("utf-8", "replace"))
    if size >= _MAX_ARGUMENT_BYTES:
        begins = text[:40]
        raise MissingValue(
            f"an argument would have {size:,} bytes ({begins!r}…), less than {_MAX_ARGUMENT_BYTES:,} are possible: "
            "the program may read the item from its input instead"
        )
    return text


def _share(line: bytes) -> tuple[float, str] | None:
    """`3/10 words`, `0.3 words` or `30% words` of a line of progress."""
    told = _PROGRESS.fullmatch(plain_text(line).strip())
    if told is None:
        return None
    done, of, share, percent, phase = told.groups()
    if done is not None:
        return (float(done) / float(of) if float(of) else 0.0), phase or ""
    return float(share) / (100 if percent else 1), phase or ""


async def _kept(declaration: Declaration, outcome: Outcome, ended: Ended, context: Context[Parameters]) -> Outcome:
    """The outcome with what its program said: the end of it in words, all of it as a blob where that is longer."""
    if isinstance(outcome, Result):
        small = ended.output is not None and len(ended.output) <= INLINE_BYTES
        if declaration.form.keep_log == "always" and ended.log and small:
            return replace(outcome, blob=await asyncio.to_thread(context.blobs.put, ended.log))
        return outcome
    if not isinstance(outcome, Failure):
        return outcome
    whole = {
        name: data
        for name, data in (("log", ended.log), ("output", ended.output or b""))
        if len(data) > TAIL_CHARACTERS and not (name == "output" and outcome.kind == "cancelled")
    }
    kept: dict[str, str] = {}
    if whole:
        try:
            refs = await asyncio.to_thread(context.blobs.put_many, list(whole.values()))
            kept = {name: f"blob {ref.sha256}" for name, ref in zip(whole, refs, strict=True)}
        except PenstockError as error:  # the item failed for its own reason, and that is told
            kept = dict.fromkeys(whole, f"not kept: {error.message}")
    return with_logs(outcome, ended, kept)
