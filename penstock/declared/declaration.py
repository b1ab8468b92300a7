"""A declaration: the TOML file that makes a program a processor, read and checked.

Everything that is wrong is told at once, each with its line; what is found wrong never becomes a processor. Reading
runs nothing and looks at no other file.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from penstock.declared.form import IN_ARGV, IN_LIMITS, Form
from penstock.declared.parameters import parameter_problems, parameters_type
from penstock.declared.places import Places
from penstock.declared.schemas import schema_problems
from penstock.declared.templates import Slot, Template, TemplateProblem, in_shell
from penstock.processor import Parameters

__all__ = ["MAX_FILE_BYTES", "VARIABLE", "Argv", "Declaration", "Problem", "read"]

MAX_FILE_BYTES = 64 << 10
HASH_DIGITS = 12
VARIABLE = "ITEM_VALUE_"
"""With a number: what a shell command's placeholders stand for."""

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """What is wrong with a declaration, and the line on which it stands; 0: the file as a whole."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


@dataclass(frozen=True)
class Argv:
    """What is started: templates of the arguments, or a shell script and the slots of its variables."""

    arguments: tuple[Template, ...]
    script: str | None = None
    slots: tuple[Slot, ...] = ()


@dataclass(frozen=True)
class Declaration:
    """A file without a problem. `folder` is where it lies; `version` is VERSION+HASH12."""

    form: Form
    file_hash: str
    folder: str
    parameters_type: type[Parameters]
    work: Argv
    heal: Argv | None
    confirm: Argv | None
    limits: tuple[Template, ...]
    exit_limits: Mapping[int, Template]
    """By exit code: the limit that closes when the program was throttled."""

    @property
    def name(self) -> str:
        return self.form.name

    @property
    def version(self) -> str:
        return f"{self.form.version}+{self.file_hash[:HASH_DIGITS]}"


def read(data: bytes, *, name: str, folder: str, installed: Sequence[str] = ()) -> Declaration | list[Problem]:
    """The declaration in a file's bytes, or all that is wrong with it.

    name: the file's, without .toml: the declaration has the same; installed: names that are taken.
    """
    if len(data) > MAX_FILE_BYTES:
        return [Problem(0, f"the file has {len(data):,} bytes, a declaration may have {MAX_FILE_BYTES:,}")]
    if data.startswith(codecs.BOM_UTF8):
        return [Problem(1, "no TOML: it begins with a byte order mark; save it as UTF-8 without one")]
    try:
        text = data.decode()
        tree = tomllib.loads(text)
    except UnicodeDecodeError as error:
        return [Problem(data.count(b"\n", 0, error.start) + 1, "the file is no UTF-8: save it as UTF-8")]
    except (ValueError, RecursionError) as error:  # no TOML; a number that is too long for Python
        return [_broken(error, text)]
    problems: list[tuple[Path, str]] = []
    form: Form | None = None
    try:
        form = Form.model_validate(tree)
    except ValidationError as error:
        problems += [(_path(one["loc"]), _told(one)) for one in error.errors()]
    if isinstance(taken := tree.get("name"), str):
        problems += _name_problems(taken, name, installed)
    for table in ("payload", "result"):
        if isinstance(schema := tree.get(table), dict):
            problems += schema_problems(schema, (table,))
    if isinstance(parameters := tree.get("parameters"), dict):
        problems += parameter_problems(parameters)
    problems += _unsayable(tree)
    parts: _Parts | None = None
    if form is not None:
        parts = _Parts(form)
        problems += parts.problems
    if form is None or parts is None or problems:
        places = Places(text)
        told = {Problem(places.line(path), what) for path, what in problems}
        return sorted(told, key=lambda problem: (problem.line, problem.text))
    return Declaration(
        form=form,
        file_hash=hashlib.sha256(data).hexdigest(),
        folder=folder,
        parameters_type=parameters_type(form.parameters),
        work=parts.argv[()],
        heal=parts.argv.get(("heal",)),
        confirm=parts.argv.get(("confirm",)),
        limits=tuple(parts.limits),
        exit_limits=parts.exit_limits,
    )


def _name_problems(taken: str, name: str, installed: Sequence[str]) -> Iterator[tuple[Path, str]]:
    if taken != name:
        yield ("name",), f"name is {taken!r} and the file is {name}.toml: they are the same"
    if taken in installed:
        yield ("name",), f"{taken} is an installed processor, whose name no declaration may take"


def _unsayable(tree: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """What is listed as JSON, and has numbers that JSON can't tell."""
    for table in ("payload", "result", "parameters"):
        try:
            orjson.dumps(tree.get(table))
        except TypeError as error:
            text = str(error)
            yield (table,), f"{table}: no JSON can say it: {text[:1].lower()}{text[1:]}"


class _Parts:
    """The templates of a form, and what is wrong beyond the types of its fields."""

    def __init__(self, form: Form) -> None:
        self.problems: list[tuple[Path, str]] = []
        self.argv: dict[tuple[str, ...], Argv] = {}
        self.limits: list[Template] = []
        self.exit_limits: dict[int, Template] = {}
        self._form = form
        self._commands()
        for place, text in enumerate(form.limits):
            self.limits.append(self._limit(text, ("limits", place)))
        self._exits()
        if form.paid and form.cost is None:
            self._tell(("paid",), "paid needs a table [cost]: where the output tells what it cost")
        if form.cost is not None and (form.cost.dollars is None) == (form.cost.micros is None):
            self._tell(("cost",), "[cost] has either dollars or micros: the place of the amount in the output")
        if both := sorted({*form.environment.set} & {*form.environment.allow, *form.environment.needs}):
            self._tell(("environment",), f"{', '.join(both)}: either set here or passed through")

    def _tell(self, path: Path, what: str) -> None:
        self.problems.append((path, what))

    def _commands(self) -> None:
        form = self._form
        commands = {(): (form.argv, form.shell)}
        for mode, command in (("heal", form.heal), ("confirm", form.confirm)):
            if command is not None:
                commands[mode,] = (command.argv, command.shell)  # type: ignore[index]
        for path, (argv, shell) in commands.items():
            if shell and len(argv) != 1:
                self._tell((*path, "argv"), f"with shell = true argv is one text, the script; here are {len(argv)}")
                continue
            templates = tuple(Template.parse(text, IN_ARGV) for text in argv)
            self._uses(templates, path)
            made = Argv(templates)
            if shell:
                try:
                    script, slots = in_shell(templates[0], VARIABLE)
                    made = Argv((), script, tuple(slots))
                except TemplateProblem as error:
                    self._tell((*path, "argv"), str(error))
            elif templates[0].slots and templates[0].slots[0].path[0] != "here":
                self._tell((*path, "argv"), "the first of argv is the program: no placeholder but {here} stands there")
            self.argv[path] = made

    def _uses(self, templates: Sequence[Template], path: tuple[str, ...]) -> None:
        named = {slot.path for template in templates for slot in template.slots}
        for what, where in (("input", self._form.input), ("output", self._form.output)):
            if where == "file" and (what,) not in named:
                self._tell((*path, "argv"), f"{what} is a file, and {{{what}}} stands nowhere in argv")
            if where != "file" and (what,) in named:
                self._tell((*path, "argv"), f'{{{what}}} needs {what} = "file"')
        for place, template in enumerate(templates):
            self._parameters(template, (*path, "argv", place))

    def _exits(self) -> None:
        for code, rule in self._form.exit.items():
            path = ("exit", code)
            if rule.kind != "throttled":
                if rule.limit:
                    self._tell((*path, "limit"), "limit is for kind throttled: which limit closes")
                continue
            limit = rule.limit or (self._form.limits[0] if len(self._form.limits) == 1 else "")
            if limit not in self._form.limits:
                self._tell(path, "a throttled program closes one of `limits`: name it as `limit`")
            else:
                self.exit_limits[int(code)] = Template.parse(limit, IN_LIMITS)

    def _limit(self, text: str, path: Path) -> Template:
        template = Template.parse(text, IN_LIMITS)
        self._parameters(template, path)
        return template

    def _parameters(self, template: Template, path: Path) -> None:
        for slot in template.slots:
            if slot.path[0] == "parameters" and slot.path[1] not in self._form.parameters:
                self._tell(path, f"{{{slot.name}}}: there is no such parameter")


def _broken(error: Exception, text: str) -> Problem:
    if isinstance(error, RecursionError):
        return Problem(_first_line(text), "no TOML: its values are nested too deep")
    if not isinstance(error, tomllib.TOMLDecodeError):
        # TOML, of which Python says what of it it does not take, and not where.
        return Problem(_first_line(text), f"it can't be read: {str(error).partition(';')[0]}")
    at = re.search(r" \(at line (\d+), column (\d+)\)$", str(error))
    if at is None:
        return Problem(len(text.splitlines()), f"no TOML: {error}")
    return Problem(int(at[1]), f"no TOML: {str(error)[: at.start()]} (column {at[2]})")


def _first_line(text: str) -> int:
    """Of a text that breaks the reader and is no wrong TOML up to there: the line that it breaks at."""
    lines = text.split("\n")

    def comes(count: int) -> bool:
        try:
            tomllib.loads("\n".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            return False
        except (ValueError, RecursionError):
            return True
        return False

    return bisect_left(range(1, len(lines)), True, key=comes) + 1


def _path(location: tuple[int | str, ...]) -> Path:
    return location if location[-1:] != ("[key]",) else location[:-1]


def _told(error: Mapping[str, Any]) -> str:
    names = ".".join(map(str, _path(error["loc"])))
    if error["type"] == "extra_forbidden":
        return f"{names}: there is no such field"
    if error["type"] == "missing":
        return f"{names} is missing"
    what = error["msg"].removeprefix("Value error, ")
    return f"{names}: {what[:1].lower()}{what[1:]}"
