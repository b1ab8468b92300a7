"""What commands that select rows share: their options, and what is typed as a selection, an order and a stage."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.client.plan_views import OrderingView, SelectionView
    from penstock.client.plans import StageOptions
    from penstock.client.selections import Selection

__all__ = [
    "BudgetOption",
    "ConcurrencyOption",
    "LimitOption",
    "MaxRunSecondsOption",
    "MaxTriesOption",
    "NameOption",
    "OrgOption",
    "ParamOption",
    "ParametersOption",
    "RepoOption",
    "RulesOption",
    "columns_of",
    "keys_of",
    "ordering_text",
    "refuse_empty",
    "selection_of",
    "selection_text",
    "sql_of",
    "stage_of",
]

_SELECTING = frozenset(
    (
        *("filter", "ids", "missing", "reprocess", "failed_of", "changed_since", "sql", "selection_json"),
        *("exclude_filter", "exclude_ids", "org", "repo"),
    )
)
"""Parameters of commands. An empty --state is any."""

_INCLUDED = {
    "missing": "missing",
    "failed_of_run": "failed of",
    "changed_since_plan": "changed since",
    "sql": "SQL:",
    "filter": "filter:",
}

OrgOption = Annotated[str, typer.Option("--org", help="Only rows of this org (also of repos `org/name`).")]
RepoOption = Annotated[str, typer.Option("--repo", help="Only rows of this repo, as name or org/name.")]
LimitOption = Annotated[int, typer.Option("--limit", min=0, help="At most so many, the first in order (0: all).")]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the processor; repeat it.")
]
ParametersOption = Annotated[
    str, typer.Option("--parameters", metavar="JSON", help="Parameters of the processor as one JSON object.")
]
ConcurrencyOption = Annotated[int, typer.Option("--concurrency", min=0, help="Most items at once (0: default).")]
MaxTriesOption = Annotated[int, typer.Option("--max-tries", min=0, help="Tries of an item (0: default).")]
MaxRunSecondsOption = Annotated[int, typer.Option("--max-run-seconds", min=0, help="Time of one item (0: default).")]
RulesOption = Annotated[
    str,
    typer.Option("--rules", metavar="JSON|FILE", help="Retries, heal, confirm, gate, tolerance: see docs/running.md."),
]
BudgetOption = Annotated[str, typer.Option("--budget", metavar="DOLLARS", help="Cap of the run.")]
NameOption = Annotated[str, typer.Option("--name", help="A name for people.")]


def columns_of(text: str) -> tuple[str, ...]:
    """`price desc,name` as two; a name with a comma stands in double quotes."""
    parts = next(csv.reader([text], skipinitialspace=True), [])
    return tuple(word for part in parts if (word := part.strip()))


def keys_of(file: str) -> list[str]:
    """Keys from a file, or with `-` from standard input, one a line. Raises InvalidInput for a file without any."""
    from penstock.runtime.errors import InvalidInput

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is no UTF-8 text: {error.reason} at byte {error.start}", code="bad_keys") from None
    keys = [line for line in text.splitlines() if line.strip()]
    if not keys:
        raise InvalidInput(f"{'standard input' if file == '-' else file} has no keys: one a line", code="bad_keys")
    return keys


def refuse_empty(context: typer.Context) -> None:
    """Raises InvalidInput for what selects and was typed as nothing: a variable that was never set is not to select all
    there is."""
    from penstock.runtime.errors import InvalidInput

    empty = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name in _SELECTING and context.params[name] == "" and source is not None and source.name == "COMMANDLINE":
            empty.append(parameter.opts[0])
    if empty:
        raise InvalidInput(
            f"{' and '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty: say what is selected, or leave it out",
            code="bad_selection",
        )


def sql_of(text: str) -> str:
    """The SELECT itself, or with `@FILE` what stands there."""
    return Path(text[1:]).read_text() if text.startswith("@") else text


def selection_of(text: str) -> Selection | None:
    """What is typed as JSON, or with `@FILE` stands there; None for nothing. Raises InvalidInput."""
    from penstock.client.selections import Selection

    if not text:
        return None
    data = Path(text[1:]).read_bytes() if text.startswith("@") else text
    told = _object_of(data, option="--selection", as_='{"missing": "scan"}', code="bad_selection")
    return Selection.of(told)


def stage_of(
    processor: str,
    *,
    param: list[str] | None,
    parameters: str,
    concurrency: int,
    max_tries: int,
    max_run_seconds: int,
    rules: str = "",
) -> StageOptions:
    """Raises InvalidInput. What --param says goes before what --parameters says."""
    from penstock.cli.starting import parameters as pairs_of
    from penstock.cli.starting import rules_of
    from penstock.client.plans import StageOptions

    given = _object_of(parameters or "{}", option="--parameters", as_='{"top": 20}', code="bad_parameters")
    return StageOptions(
        processor=processor,
        parameters={**given, **pairs_of(param or [])},
        concurrency=concurrency,
        max_tries=max_tries,
        max_run_seconds=max_run_seconds,
        rules=rules_of(rules) or None,
    )


def _object_of(data: bytes | str, *, option: str, as_: str, code: str) -> dict[str, Any]:
    """One JSON object, read as strictly as HTTP does. as_: how one may look. Raises InvalidInput."""
    from penstock.runtime.errors import InvalidInput
    from penstock.strict_json import NotStrict, read_json

    try:
        found = read_json(data, what=option)
    except NotStrict as error:
        raise InvalidInput(str(error), code=code) from None
    except ValueError as error:
        raise InvalidInput(f"{option} is no JSON: {error}", code=code) from None
    if not isinstance(found, dict):
        raise InvalidInput(f"{option} must be a JSON object as {as_}", code=code)
    return found


def selection_text(view: SelectionView | None) -> str:
    """In words, on one line."""
    if view is None:
        return "all, as the source has it"
    parts = [_included(view)]
    parts += [f"{name} {value}" for name in ("org", "repo", "state") if (value := view.get(name))]
    parts += [f"without {counted(len(view['exclude_keys']), 'key')}"] if view.get("exclude_keys") else []
    parts += [f"without {view['exclude_filter']}"] if view.get("exclude_filter") else []
    parts += [f"the first {view['limit']:,}"] if view.get("limit") else []
    parts += ["also what was done already"] if view.get("again") else []
    return ", ".join(parts)


def _included(view: SelectionView) -> str:
    if "keys" in view:
        return counted(len(view["keys"]), "key") if view["keys"] else "keys"
    if "reprocess" in view:
        return f"{view['reprocess']['processor']} below {view['reprocess']['threshold']:g}"
    for name, words in _INCLUDED.items():
        if value := view.get(name):
            return f"{words} {value}"
    return "all"


def ordering_text(view: OrderingView | None, *, own: Sequence[str] = ()) -> str:
    """In words, on one line. own: the columns of the source's own order."""
    if view is None:
        return "as the source has it"
    parts = [f"first {', '.join(view['pinned'])}"] if view["pinned"] else []
    parts += [f"then {', '.join(view['groups'])}" if parts else ", ".join(view["groups"])] if view["groups"] else []
    if view["as_selected"]:
        parts.append("as selected")
    else:
        columns = f" ({', '.join(own)})" if own else ""
        usual = f"by the source's own order{columns}"
        parts.append(f"by {', '.join(view['sort'])}" if view["sort"] else usual)
    return "; ".join(parts)
