"""Filters: the one parser of the text by which people choose items, rows and limits.

A subset of AIP-160, so that what works elsewhere works here and nothing means two things:

    brand = "Razer" AND (price < 50 OR NOT variant:black)
    state in (failed, skipped) AND group is not null AND `odd name` != "x"

- `=`, `!=`, `<`, `<=`, `>`, `>=`; `:` looks for a part of a text (upper and lower case of ASCII letters are the same);
  `in (…)`; `is null`, `is not null`; NOT, AND, OR, parentheses. Keywords may be written in lower case.
- AND and OR side by side need parentheses: AIP-160 binds OR closer, most languages AND, and a reader can't know.
- Names that are not plain words stand in backticks, where a backtick is written twice; texts that are not in double
  or single quotes.
- Two-valued: a field that is missing or null equals nothing, is less than nothing and holds no part, so a comparison
  with it is false and its NOT (`!=` too) is true.

Here the text becomes nodes (filter_nodes.py). Pure. Whatever is wrong with the text is told as InvalidInput (code
`bad_filter`) with the place, what was expected, and what would be right; its metadata has the place as two lines, the
text and a caret under the character (`line`, `caret`), for whoever shows errors in a terminal. `filter_sql` makes a
condition of SQL of a filter that was parsed here; both agree on every value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property

from penstock.filter_names import PLAIN_NAME
from penstock.filter_nodes import And, Compare, IsNull, Node, Not, Or, Value, decide, leaves, test
from penstock.filter_places import caret, nearest
from penstock.runtime.errors import InvalidInput

__all__ = ["EVERYTHING", "MAX_CHARACTERS", "Field", "Filter", "Kind"]

MAX_CHARACTERS = 10_000
MAX_DEPTH = 50
MAX_COMPARISONS = 500
"""SQLite takes a chain of at most a thousand."""
_OPERATORS = ("!=", "<=", ">=", "=", "<", ">", ":")
_TOKEN = re.compile(r"\s*(?:(!=|<=|>=|[=<>:(),])|([\"'`])|([^\s()\"'`,=<>!:]+))")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_WHOLE = re.compile(r"[+-]?\d+")
_KEYWORDS = frozenset({"and", "or", "not", "in", "is", "null"})
_LARGEST = 2**63 - 1


class Kind(StrEnum):
    """What a field holds. TIME: milliseconds since the epoch, written as RFC 3339."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "true or false"
    TIME = "time"


@dataclass(frozen=True)
class Field:
    """A field that a filter may name; `values`: all that a text may be, where that is known."""

    kind: Kind
    values: Sequence[str] = ()


@dataclass(frozen=True)
class Filter:
    """A parsed filter. `node` None: everything."""

    text: str
    node: Node | None

    @classmethod
    def parse(cls, text: str, fields: Mapping[str, Field], *, name: str = "filter") -> Filter:
        """The filter over these fields; empty text: everything. Raises InvalidInput, which calls it by `name`."""
        if len(text) > MAX_CHARACTERS:
            raise InvalidInput(
                f"the {name} has {len(text):,} characters; at most {MAX_CHARACTERS:,} are taken", code="bad_filter"
            )
        return cls(text, _Parser(text, fields, name).filter()) if text.strip() else EVERYTHING

    @property
    def names(self) -> frozenset[str]:
        """All fields that it names."""
        return frozenset(node.name for node, _ in leaves(self.node, wanted=True))

    def asks_for(self, name: str, value: Value) -> bool:
        """Whether it names this value of the field as one that it wants (not: one that it leaves out)."""
        return any(
            wanted and isinstance(node, Compare) and node.name == name and value in node.values
            for node, wanted in leaves(self.node, wanted=True)
        )

    def matches(self, values: Mapping[str, object]) -> bool:
        """Whether it takes these values; a field that is missing is null."""
        return self._test(values)

    @cached_property
    def _test(self) -> Callable[[Mapping[str, object]], bool]:
        return test(self.node) if self.node is not None else lambda values: True

    def decide(self, known: Mapping[str, object]) -> bool | None:
        """The same where only some fields are known: None when it depends on the others."""
        return True if self.node is None else decide(self.node, known)


EVERYTHING = Filter("", None)


@dataclass(frozen=True)
class _Token:
    """`kind`: an operator or bracket itself, or text, name (in backticks), word, end. `at`: from 1."""

    kind: str
    text: str
    at: int


class _Parser:
    def __init__(self, text: str, fields: Mapping[str, Field], name: str) -> None:
        self._name = name
        self._text = text
        self._fields = fields
        self._tokens = self._read()
        self._next = 0
        self._comparisons = 0

    def filter(self) -> Node:
        node = self._expression(0)
        token = self._token
        if token.kind == ")":
            raise self._error(token, "this closes nothing: there is no ( before it")
        if token.kind != "end":
            raise self._error(token, "AND, OR or the end was expected; texts with spaces stand in quotes")
        return node

    # -- tokens

    def _read(self) -> list[_Token]:
        tokens = []
        place = 0
        while found := _TOKEN.match(self._text, place):
            sign, quote, word = found.groups()
            at = found.start(found.lastindex or 0)
            place = found.end()
            if quote:
                text, place = self._quoted(at)
                tokens.append(_Token("name" if quote == "`" else "text", text, at + 1))
            elif sign:
                tokens.append(_Token(sign, sign, at + 1))
            else:
                tokens.append(_Token("word", word, at + 1))
        if self._text[place:].strip():
            at = place + len(self._text[place:]) - len(self._text[place:].lstrip())
            raise self._error(_Token("sign", self._text[at], at + 1), "no filter has this sign; != is one")
        tokens.append(_Token("end", "", len(self._text) + 1))
        return tokens

    def _quoted(self, start: int) -> tuple[str, int]:
        """The text up to the next quote of its kind, and where it goes on; a backslash keeps what follows it, and a
        backtick that is written twice is one."""
        quote = self._text[start]
        parts: list[str] = []
        place = start + 1
        while place < len(self._text):
            sign = self._text[place]
            if sign == "`" == quote and self._text[place + 1 : place + 2] == "`":
                place += 1
            elif sign == quote:
                return "".join(parts), place + 1
            elif sign == "\\" and place + 1 < len(self._text):
                place += 1
                sign = self._text[place]
            parts.append(sign)
            place += 1
        raise self._error(_Token("text", self._text[start:], start + 1), f"the closing {quote} is missing")

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _keyword(self, *words: str) -> str:
        """Takes one of these keywords where it stands, and answers it; else the empty text."""
        word = self._token.text.lower() if self._token.kind == "word" else ""
        if word in words:
            self._next += 1
            return word
        return ""

    def _error(self, token: _Token, expected: str) -> InvalidInput:
        near = f"near {token.text[:40]!r}" if token.kind != "end" else "at its end"
        line, below = caret(self._text, token.at)
        return InvalidInput(
            f"the {self._name} is wrong at character {token.at}, {near}: {expected}",
            code="bad_filter",
            at=str(token.at),
            line=line,
            caret=below,
        )

    # -- grammar

    def _expression(self, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise self._error(self._token, f"it is nested more than {MAX_DEPTH} deep")
        parts = [self._term(depth)]
        joined = ""
        while True:
            token = self._token
            word = self._keyword("and", "or")
            if not word:
                break
            if joined and word != joined:
                raise self._error(token, "AND and OR side by side: put parentheses around what belongs together")
            joined = word
            parts.append(self._term(depth))
        if len(parts) == 1:
            return parts[0]
        return And(tuple(parts)) if joined == "and" else Or(tuple(parts))

    def _term(self, depth: int) -> Node:
        if self._keyword("not"):
            if depth > MAX_DEPTH:
                raise self._error(self._token, f"it is nested more than {MAX_DEPTH} deep")
            return Not(self._term(depth + 1))
        if self._token.kind == "(":
            opened = self._take()
            node = self._expression(depth + 1)
            if self._token.kind != ")":
                raise self._error(self._token, f"AND, OR or the ) of the ( at character {opened.at} was expected")
            self._take()
            return node
        return self._restriction()

    def _restriction(self) -> Node:
        token = self._take()
        self._comparisons += 1
        if self._comparisons > MAX_COMPARISONS:
            raise self._error(token, f"it has more than {MAX_COMPARISONS} comparisons; `in (…)` takes many values")
        if token.kind == "word" and (token.text.lower() in _KEYWORDS or not PLAIN_NAME.fullmatch(token.text)):
            raise self._error(token, "a field was expected; a name that is no plain word stands in `backticks`")
        if token.kind == "text":
            raise self._error(token, "a field was expected; texts in quotes are values, odd names stand in `backticks`")
        if token.kind not in ("word", "name"):
            raise self._error(token, 'a comparison was expected, e.g. group = "Razer"')
        name = token.text
        field = self._fields.get(name)
        if field is None:
            raise self._error(token, f"there is no such field; {nearest(name, self._fields)}")
        if self._keyword("is"):
            absent = not self._keyword("not")
            if not self._keyword("null"):
                raise self._error(self._token, "`is null` or `is not null` was expected")
            return IsNull(name) if absent else Not(IsNull(name))
        if self._keyword("in"):
            return Compare(name, "in", self._list(name, field))
        sign = self._take()
        if sign.kind not in _OPERATORS:
            eg = f", e.g. {name} = true" if field.kind is Kind.BOOLEAN else ""
            raise self._error(sign, f"after {name} one of {' '.join(_OPERATORS)} in, is was expected{eg}")
        if sign.kind == ":" and field.kind is not Kind.TEXT:
            raise self._error(sign, f": looks for a part of a text, and {name} is a {field.kind}; take =")
        if sign.kind in ("<", "<=", ">", ">=") and (field.kind is Kind.BOOLEAN or field.values):
            raise self._error(sign, f"the values of {name} have no order; take = or in")
        value = self._value(name, field, part=sign.kind == ":")
        if sign.kind == "!=":
            return Not(Compare(name, "=", (value,)))
        return Compare(name, sign.kind, (value,))

    def _list(self, name: str, field: Field) -> tuple[Value, ...]:
        if self._token.kind != "(":
            raise self._error(self._token, f"a list in parentheses was expected, e.g. {name} in (a, b)")
        self._take()
        values = [self._value(name, field)]
        while self._token.kind == ",":
            self._take()
            values.append(self._value(name, field))
        if self._token.kind != ")":
            raise self._error(self._token, "a comma or ) was expected")
        self._take()
        return tuple(values)

    def _value(self, name: str, field: Field, *, part: bool = False) -> Value:
        token = self._take()
        if token.kind not in ("word", "text"):
            raise self._error(token, f"a value of {name} was expected; it is a {field.kind}")
        if token.kind == "word" and token.text.lower() in _KEYWORDS:
            raise self._error(token, f"a value was expected; `{name} is null` asks for what has none, texts are quoted")
        if field.kind is Kind.NUMBER:
            return self._number(token, name)
        if field.kind is Kind.BOOLEAN:
            if token.text.lower() not in ("true", "false"):
                raise self._error(token, f"{name} is true or false")
            return token.text.lower() == "true"
        if field.kind is Kind.TIME:
            return self._time(token, name)
        if "\0" in token.text:
            raise self._error(token, "a text has a NUL character, which no text may have")
        if any("\ud800" <= sign <= "\udfff" for sign in token.text):
            raise self._error(token, "a text has half of a character, which no text may have")
        if field.values and not part and token.text not in field.values:
            raise self._error(token, f"{name} is never that; it may be {', '.join(field.values)}")
        return token.text

    def _number(self, token: _Token, name: str) -> int | float:
        if token.kind != "word" or not _NUMBER.fullmatch(token.text):
            raise self._error(token, f"{name} is a number, so a number was expected")
        number = int(token.text) if _WHOLE.fullmatch(token.text) else float(token.text)
        if not abs(number) <= _LARGEST:
            raise self._error(token, "no number here is that large")
        return number

    def _time(self, token: _Token, name: str) -> int:
        try:
            moment = datetime.fromisoformat(token.text)
        except ValueError:
            moment = None
        if moment is None:
            raise self._error(token, f'{name} is a time: write it like "2026-01-31T12:00:00Z", in quotes')
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
