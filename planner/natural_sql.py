"""`planner.domain.natural` as an expression of DuckDB.

Sort keys are stored for every row of a source, so the texts that are most come by short ways: those without a number,
with one number (before others a short one at the end), and with numbers of a few digits. The last way is right for all
of them and several times as slow. Letters are folded as ASCII's; `lower` knows more of them, so it is for texts of
ASCII alone.
"""

from __future__ import annotations

from planner.domain.natural import MOST_CHARACTERS

__all__ = ["folded_sql", "natural_of_parts", "natural_parts", "natural_sql"]

_LOWER = (
    "CASE WHEN strlen({0}) = length({0}) THEN lower({0}) "
    "ELSE translate({0}, 'ABCDEFGHIJKLMNOPQRSTUVWXYZ', 'abcdefghijklmnopqrstuvwxyz') END"
)
_NUMBER = "length(length({0})::VARCHAR)::VARCHAR || length({0})::VARCHAR || {0}"

_ONE = "regexp_extract({}, '^([^0-9]*)0*([0-9]+)([^0-9]*)$', ['before', 'digits', 'after'])"
"""All empty where there are several numbers."""

_TAIL_DIGITS = 4
_TAIL = "regexp_full_match({}, '[^0-9]*[1-9][0-9]{{0,3}}')"
"""One number, at the end, of 1 to 4 digits: `model 27`. Its digits are counted from the end."""

_SHORT = 4
_STRIPPED = "CASE WHEN ltrim(natural_run, '0') = '' THEN '0' ELSE ltrim(natural_run, '0') END"
_ENCODED = f"CASE WHEN natural_run[1] BETWEEN '0' AND '9' THEN {_NUMBER.format(f'({_STRIPPED})')} ELSE natural_run END"


def folded_sql(text: str) -> str:
    """A text with its ASCII letters in lower case, as `penstock.filter_nodes.folded`. lower() folds all alphabets."""
    return f"({_LOWER.format(text)})"


_TWO = (
    "regexp_extract({}, '^([^0-9]*)0*([0-9]+)([^0-9]+)0*([0-9]+)([^0-9]*)$', "
    "['before', 'first', 'between', 'second', 'after'])"
)
"""All empty unless there are two numbers, as in most ids and addresses: the last way takes seven times as long."""


def natural_sql(text: str) -> str:
    """The natural key of an expression that is a text and not null."""
    key = natural_of_parts("natural_text")
    first, second = (_NUMBER.format(f"natural_pair.{name}") for name in ("first", "second"))
    pair = f"natural_pair.before || {first} || natural_pair.between || {second} || natural_pair.after"
    several = (
        f"list_transform([{_TWO.format('natural_text.lower')}], lambda natural_pair: "
        f"CASE WHEN natural_pair.first <> '' THEN {pair} ELSE {key} END)[1]"
    )
    # A list of one, for its lambda: so each part is computed once.
    alike = f"natural_text.one.digits = '' AND NOT {_prose('natural_text.lower')}"
    return (
        f"list_transform([{natural_parts(text)}], lambda natural_text: "
        f"CASE WHEN {alike} THEN {several} ELSE {key} END)[1]"
    )


def natural_parts(text: str) -> str:
    """What `natural_of_parts` needs of a text: in a select of its own it is computed once, with less ado."""
    lower = _LOWER.format(text)
    digits = "".join(
        f"WHEN NOT ({text})[-{count + 1}] BETWEEN '0' AND '9' THEN {count} " for count in range(1, _TAIL_DIGITS)
    )
    tail = f"CASE WHEN {_TAIL.format(text)} THEN CASE {digits}ELSE {_TAIL_DIGITS} END END"
    some = f"regexp_matches({text}, '[0-9]')"
    one = f"CASE WHEN {_TAIL.format(text)} THEN NULL WHEN {some} THEN {_ONE.format(f'({lower})')} END"
    return f"{{'lower': {lower}, 'tail': {tail}, 'one': {one}}}"


def natural_of_parts(parts: str) -> str:
    """The natural key, of a column of parts."""
    lower, tail, one = f"{parts}.lower", f"{parts}.tail", f"{parts}.one"
    tails = f"concat(left({lower}, -{tail}), '1', {tail}, right({lower}, {tail}))"
    digits = _NUMBER.format(f"{one}.digits")
    # A number of more digits than the short way knows, or one of its marks.
    long = f"regexp_matches({lower}, '[\x01\x02]|[1-9][0-9]{{{_SHORT}}}')"
    every, first = _every(lower), _every(f"left({lower}, {MOST_CHARACTERS})")
    short = f"regexp_replace({lower}, '0*([1-9][0-9]*|0)', '\x01\\1\x02', 'g')"
    for count in range(1, _SHORT + 1):
        short = f"regexp_replace({short}, '\x01([0-9]{{{count}}})\x02', '1{count}\\1', 'g')"
    return (
        f"CASE WHEN {_prose(lower)} THEN {first} || substr({lower}, {MOST_CHARACTERS + 1}) "
        f"WHEN {tail} > 0 THEN {tails} WHEN {one} IS NULL THEN {lower} "
        f"WHEN {one}.digits <> '' THEN {one}.before || {digits} || {one}.after "
        f"WHEN {long} THEN {every} ELSE {short} END"
    )


def _prose(lower: str) -> str:
    return f"(length({lower}) > {MOST_CHARACTERS})"


def _every(lower: str) -> str:
    runs = f"regexp_extract_all({lower}, '[0-9]+|[^0-9]+')"
    return f"array_to_string(list_transform({runs}, lambda natural_run: {_ENCODED}), '')"
