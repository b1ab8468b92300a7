"""`penstock processors`: who turns items into outcomes, and whether a declaration is right.

`list` and `show` ask the server. `check` needs none: it reads one file, shows what would be started for an item, and
starts it here only when told to; nothing is recorded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, carry_out, connected

if TYPE_CHECKING:
    from penstock.client.plan_views import ProcessorView
    from penstock.declared.folder import Declared
    from penstock.processor import Outcome, Parameters, Processor, WorkItem

__all__ = ["app"]

WRONG = 2
NOT_COMPLETED = 3
_LONG_SECONDS = 30 * 86_400.0
"""No stage bounds what is run here; the declaration does."""

app = typer.Typer(no_args_is_help=True, help="The code that turns items into outcomes.")


@app.command("list")
def list_processors(data: DataOption = None, as_json: JsonOption = False) -> None:
    """The processors that runs may name, with their parameters; and declarations that are wrong.

    Example: penstock processors list
    """

    async def work() -> None:
        from penstock.client.plan_views import processor_view

        async with connected(data) as client:
            views = [processor_view(processor) for processor in await client.processors.list()]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("processor", "version", "kind", "parameters", "description"),
            [
                (
                    view["name"],
                    view["version"],
                    view["kind"],
                    ", ".join(_properties(view)),
                    _description(view),
                )
                for view in views
            ],
        )

    carry_out(work())


@app.command("show")
def show_processor(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, as the list has it.", show_default=False)],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """One processor: its parameters and limits; of a declared one what heals, exit codes, its file and what is wrong.

    Example: penstock processors show noop
    """

    async def work() -> int:
        from penstock.client.plan_views import processor_view

        async with connected(data) as client:
            view = processor_view(await client.processors.get(name))
        if as_json:
            show.print_json(view)
        else:
            _say(view)
        return WRONG if view["problems"] else 0

    carry_out(work())


def _say(view: ProcessorView) -> None:
    show.say(f"{view['name']} {view['version']}".strip() + f": {show.text(view['description'])}")
    rows: list[tuple[str, object]] = [("kind", view["kind"])]
    if view["file"]:
        rows += [("file", view["file"]), ("sha256", view["file_hash"])]
    if view["argv"]:
        rows += [("argv", " ".join(view["argv"])), ("wall_seconds", f"{view['wall_seconds']:g}")]
    rows += [
        (mode, " ".join(argv))
        for mode, argv in (("heal", view["heal_argv"]), ("confirm", view["confirm_argv"]))
        if argv
    ]
    for one in view["exits"]:
        rows.append((f"exit {one['code']}", one["kind"] + (", never tried again" if one["permanent"] else "")))
    rows += [("paid", "yes" if view["paid"] else "no"), ("repeatable", "yes" if view["repeatable"] else "no")]
    rows += [("limits", ", ".join(view["limits"])), ("needs", ", ".join(view["environment_needs"]))]
    if view["disabled"]:
        rows.append(("disabled", "by the server's settings: no plan may name it"))
    rows += [("wrong", f"{_place(problem['line'])}{problem['text']}") for problem in view["problems"]]
    show.print_facts(rows)
    if properties := _properties(view):
        show.say()
        show.print_table(
            ("--param", "type", "default", "description"),
            [
                (
                    name,
                    schema.get("type"),
                    json.dumps(schema["default"], ensure_ascii=False) if "default" in schema else "must be given",
                    schema.get("description"),
                )
                for name, schema in properties.items()
            ],
        )


def _description(view: ProcessorView) -> str:
    if view["problems"]:
        return f"can't be used: {_told(view)}"
    return f"disabled: {view['description']}" if view["disabled"] else view["description"]


def _properties(view: ProcessorView) -> dict[str, Any]:
    found: dict[str, Any] = (view["parameters_schema"] or {}).get("properties", {})
    return found


def _told(view: ProcessorView) -> str:
    return "; ".join(f"{_place(problem['line'])}{problem['text']}" for problem in view["problems"])


def _place(line: int) -> str:
    return f"line {line}: " if line else ""


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A declaration, NAME.toml.", show_default=False)],
    item: Annotated[
        str | None, typer.Option("--item", metavar="JSON", help="Show what would be started for this item.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="NAME=VALUE", help="A parameter of the processor; repeat it.")
    ] = None,
    mode: Annotated[Literal["work", "heal", "confirm"], typer.Option("--mode", help="What the item is for.")] = "work",
    run: Annotated[bool, typer.Option("--run", help="With --item: start it here, too. Nothing is recorded.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a declaration: everything that is wrong, with its line. Needs no server. Exit code 2 when it is wrong, 3
    when an item that was run is not completed.

    Example: penstock processors check examples/reading-ease/reading-ease.toml

    Example: penstock processors check my.toml --item '{"key": "a", "payload": {"text": "Some words."}}' --run
    """
    from penstock.cli.starting import parameters
    from penstock.declared.folder import INSTALLED, declared_in
    from penstock.runtime.errors import InvalidInput

    if run and item is None:
        raise InvalidInput('--run needs an item: --item \'{"key": "a", "payload": {…}}\'', code="bad_item")
    found = declared_in(file, installed=INSTALLED.installed, programs=INSTALLED.programs)
    told: dict[str, Any] = {
        "file": str(file),
        "usable": found.processor is not None,
        "problems": [{"line": problem.line, "text": problem.text} for problem in found.problems],
        "name": found.name,
        "version": found.processor.version if found.processor is not None else None,
    }
    code = 0 if found.processor is not None else WRONG
    if found.processor is not None and item is not None:
        code = _tried(found, item, parameters(param or []), mode=mode, run=run, told=told)
    if as_json:
        show.print_json(told)
    else:
        _say_check(told)
    raise typer.Exit(code)


def _tried(found: Declared, text: str, values: dict[str, Any], *, mode: Any, run: bool, told: dict[str, Any]) -> int:
    """Notes in `told` what would be started, and what came of it when it was."""
    import asyncio

    from penstock.declared.command import dry_run
    from penstock.declared.templates import MissingValue
    from penstock.processor import Result, validate_parameters
    from penstock.runtime.errors import InvalidInput

    assert found.processor is not None
    work = _item(text, mode)
    typed = validate_parameters(found.processor, values)
    try:
        told["dry_run"] = dry_run(found.processor.declaration, work, typed)
    except MissingValue as error:
        raise InvalidInput(f"--item: {error}", code="bad_item") from error
    if not run:
        return NOT_COMPLETED if told["dry_run"]["problem"] else 0
    try:
        outcome = asyncio.run(_run(found.processor, work, typed))
    finally:
        found.processor.programs.close()
    told["outcome"] = _outcome(outcome)
    return 0 if isinstance(outcome, Result) else NOT_COMPLETED


def _item(text: str, mode: Any) -> WorkItem:
    import orjson

    from penstock.processor import WorkItem
    from penstock.runtime.errors import InvalidInput

    try:
        given = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"--item is no JSON: {error}", code="bad_item") from error
    key, payload = (given.get("key"), given.get("payload", {})) if isinstance(given, dict) else (None, None)
    unknown = sorted(set(given) - {"key", "group", "payload", "context", "saved"}) if isinstance(given, dict) else []
    if not isinstance(key, str) or not key or not isinstance(payload, dict) or unknown:
        raise InvalidInput(
            "--item is a JSON object of key (text) and optionally group, payload (an object), context and saved"
            + (f"; it has {', '.join(unknown)}" if unknown else ""),
            code="bad_item",
        )
    group, context, saved = str(given.get("group", "")), given.get("context"), given.get("saved")
    return WorkItem("check", 0, 0, key, group, payload, mode=mode, context=context, saved=saved)


async def _run(kind: type[Processor[Any]], item: WorkItem, parameters: Parameters) -> Outcome:
    import asyncio
    import tempfile

    from penstock.processor import Context
    from penstock.runtime.blobs import BlobStore

    def progress(share: float, phase: str) -> None:
        typer.echo(f"  {show.percent(share)} % {show.text(phase)}", err=True)

    with tempfile.TemporaryDirectory(prefix="penstock-check-") as folder:
        deadline = asyncio.get_running_loop().time() + _LONG_SECONDS
        context = Context(parameters, BlobStore(Path(folder)), deadline, on_progress=progress)
        return await kind().process(item, context)


def _outcome(outcome: Outcome) -> dict[str, Any]:
    from dataclasses import fields

    from penstock.processor import Deferred, Failure, Result, Throttled

    words = {Result: "completed", Failure: "failed", Throttled: "throttled", Deferred: "deferred"}
    told = {field.name: getattr(outcome, field.name) for field in fields(outcome) if field.name != "blob"}
    return {"ended": words[type(outcome)], **{name: value for name, value in told.items() if value not in (None, "")}}


def _say_check(told: dict[str, Any]) -> None:
    import json

    for problem in told["problems"]:
        typer.echo(f"{told['file']}:{problem['line'] or 1}: {show.text(problem['text'])}", err=True)
    if not told["usable"]:
        return
    show.print_facts(
        (name, value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for title in ("dry_run", "outcome")
        for name, value in told.get(title, {}).items()
    )
    show.say(f"{told['file']}: {told['name']} {told['version']} is right")
