"""Processors as the planner lists them: installed classes, and declarations with whatever is wrong with them.

Nothing here runs a processor or changes a declaration: whoever can write in their folder decides what runs.
"""

from __future__ import annotations

from typing import Any

import orjson

from penstock.declared.folder import Declared, Processors
from penstock.processor import Processor
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.v1 import planner_pb2
from planner.planning import load

__all__ = ["described", "listed"]

CODE, COMMAND = "code", "command"

log = get_logger("planner")


def listed(processors: Processors) -> list[planner_pb2.Processor]:
    """All of them, by name. A plug-in that does not load is left out and logged: it must not hide the others."""
    found = [_declared(one) for one in processors.declared()]
    for name in processors.installed:
        try:
            found.append(_message(load(name, processors, disabled_too=True), kind=CODE))
        except PenstockError as error:
            log.warning("an installed processor does not load", processor=name, error=error.message)
    return sorted((_marked(one, processors) for one in found), key=lambda one: (one.name, one.kind))


def described(processors: Processors, name: str) -> planner_pb2.Processor:
    """One by its name, as it is now. A declaration that is wrong is answered with its problems.

    Raises NotFound that lists all names, InvalidInput for a plug-in that does not load.
    """
    if name not in processors.installed:
        for one in processors.declared():
            if one.name == name:
                return _marked(_declared(one), processors)
    return _marked(_message(load(name, processors, disabled_too=True), kind=CODE), processors)


def _marked(one: planner_pb2.Processor, processors: Processors) -> planner_pb2.Processor:
    one.disabled = one.name in processors.disabled
    return one


def _declared(one: Declared) -> planner_pb2.Processor:
    if one.processor is None:
        message = planner_pb2.Processor(name=one.name, kind=COMMAND)
    else:
        form = one.processor.declaration.form
        message = _message(one.processor, kind=COMMAND)
        message.limits.extend(form.limits)
        message.argv.extend(form.argv)
        message.heal_argv.extend(form.heal.argv if form.heal is not None else ())
        message.confirm_argv.extend(form.confirm.argv if form.confirm is not None else ())
        for code, rule in sorted(form.exit.items(), key=lambda one: int(one[0])):
            message.exits.add(code=int(code), kind=rule.kind, permanent=rule.permanent)
        message.payload_schema = orjson.dumps(form.payload) if form.payload else b""
        message.result_schema = orjson.dumps(form.result) if form.result else b""
        message.wall_seconds = form.wall_seconds
    message.file, message.file_hash = str(one.file), one.file_hash
    for problem in one.problems:
        message.problems.add(line=problem.line, text=problem.text)
    return message


def _message(processor: type[Processor[Any]], *, kind: str) -> planner_pb2.Processor:
    return planner_pb2.Processor(
        name=processor.name,
        version=processor.version,
        description=(processor.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " "),
        parameters_schema=orjson.dumps(processor.parameters_type.model_json_schema()),
        paid=processor.paid,
        repeatable=processor.repeatable,
        kind=kind,
        environment_needs=processor.environment_needs,
    )
