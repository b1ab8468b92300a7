"""Texts with placeholders: `--url={payload.url}`, `domain:{payload.domain}`. Pure.

`{payload.a.b}` is a field of the item's payload (`{payload.list.0}` an element), `{parameters.x}` a parameter; other
names are what the caller allows. `{{` and `}}` are braces. A placeholder whose value is missing or null is an error of
that item; with a question mark (`{payload.domain?}`) the whole text is left out instead. Texts stand as they are,
numbers, truths, lists and objects as JSON.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["MissingValue", "Slot", "Template", "TemplateProblem", "found", "in_shell"]

HOLDERS = ("payload", "parameters")
"""Of these a placeholder names a field; of all others the name says all."""

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class TemplateProblem(ValueError):
    """The text is no template."""


class MissingValue(ValueError):
    """An item has no value for a placeholder, or none that may stand there."""


@dataclass(frozen=True)
class Slot:
    path: tuple[str, ...]
    optional: bool

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def value(self, values: Mapping[str, Any]) -> str | None:
        """Its text; None when it is missing and may be. Raises MissingValue."""
        held = found(values, self.path)
        if held is None:
            if self.optional:
                return None
            raise MissingValue(f"{self.name} is missing or null, and {{{self.name}}} needs it")
        text = held if isinstance(held, str) else orjson.dumps(held).decode()
        if "\0" in text:
            raise MissingValue(f"{self.name} has a NUL character, which no argument can have")
        return text


@dataclass(frozen=True)
class Template:
    """Texts and slots, in order."""

    parts: tuple[str | Slot, ...]

    @classmethod
    def parse(cls, text: str, roots: Collection[str]) -> Template:
        """Raises TemplateProblem. roots: the first names that placeholders may have."""
        parts: list[str | Slot] = []
        at = 0
        for piece in _PIECE.finditer(text):
            parts.append(text[at : piece.start()])
            at = piece.end()
            if piece[0] in ("{{", "}}"):
                parts.append(piece[0][0])
            elif piece[1] is None:
                raise TemplateProblem(f"{piece[0]} stands alone in {text!r}; a brace of its own is {piece[0] * 2}")
            else:
                parts.append(_slot(piece[1], roots))
        parts.append(text[at:])
        return cls(tuple(part for part in parts if part))

    @property
    def slots(self) -> Sequence[Slot]:
        return [part for part in self.parts if isinstance(part, Slot)]

    def filled(self, values: Mapping[str, Any]) -> str | None:
        """The text; None when an optional value is missing. Raises MissingValue."""
        texts = [part if isinstance(part, str) else part.value(values) for part in self.parts]
        if None in texts:
            return None
        return "".join(text for text in texts if text is not None)


def _slot(name: str, roots: Collection[str]) -> Slot:
    path = tuple(name.removesuffix("?").split("."))
    if path[0] not in roots:
        raise TemplateProblem(f"{{{name}}} is no placeholder; there are: {', '.join(_example(root) for root in roots)}")
    if (len(path) > 1) is not (path[0] in HOLDERS) or not all(path):
        raise TemplateProblem(f"{{{name}}} is no placeholder: {{{_example(path[0])}}} is")
    return Slot(path, name.endswith("?"))


def _example(root: str) -> str:
    return f"{root}.NAME" if root in HOLDERS else root


def found(values: Any, path: Sequence[str]) -> Any:
    """What stands at a path in JSON; None when there is nothing."""
    for name in path:
        if isinstance(values, Mapping):
            values = values.get(name)
        elif isinstance(values, list) and name.isascii() and name.isdigit() and int(name) < len(values):
            values = values[int(name)]
        else:
            return None
    return values


def in_shell(template: Template, variable: str) -> tuple[str, Sequence[Slot]]:
    """A shell script in which each slot stands as a quoted variable, so that nothing in a value is ever read as shell:
    `variable` and a number, from 1, in order of the slots. Raises TemplateProblem for one within quotes: the variable
    brings its own.
    """
    script: list[str] = []
    slots: list[Slot] = []
    state = ""
    for part in template.parts:
        if isinstance(part, str):
            state = _quotes(part, state, script[-1][-1] if script else " ")
            script.append(part)
            continue
        if state not in ("", "#"):
            raise TemplateProblem(
                f"{{{part.name}}} stands within quotes or after a backslash: leave them out, its value is quoted"
            )
        slots.append(part)
        script.append(f'"${{{variable}{len(slots)}}}"')
    return "".join(script), slots


def _quotes(text: str, state: str, before: str) -> str:
    """Where a shell is at the end of a text: within ' or ", after a backslash, in a comment (#), or none of these."""
    for character in text:
        if state == "\\":
            state = ""
        elif state == '"\\':
            state = '"'
        elif state == "#":
            state = "" if character == "\n" else "#"
        elif state:
            state = "" if character == state else '"\\' if state == '"' and character == "\\" else state
        elif character in "'\"\\" or (character == "#" and (before.isspace() or before in ";&|()")):
            state = character
        before = character
    return state
