"""JSON that people send is read as it is defined, and what can't be read is told, at no more cost than reading it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.cli.selecting import selection_of, stage_of
from penstock.runtime.errors import InvalidInput
from penstock.strict_json import NotStrict, read_json

REFUSED: dict[str, tuple[bytes, str]] = {
    "a name twice": (b'{"a": {"b": 1, "b": 2}}', "the name 'b' stands twice in an object of it"),
    "NaN": (b"[NaN]", "it is no JSON: it has no number NaN"),
    "Infinity": (b"-Infinity", "it has no number -Infinity"),
    "too many digits": (b"9" * 5_000, "it has a number of too many digits"),
    "too deep": (b"[" * 200_000, "it is nested too deep"),
    "too deep, and whole": (b'{"a":' * 200_000 + b"1" + b"}" * 200_000, "it is nested too deep"),
    "no UTF-8": (b'{"a": "\xff"}', "it is no UTF-8: byte 8 of it is wrong"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_strict_json_is_refused_in_words(what: str) -> None:
    data, words = REFUSED[what]
    with pytest.raises(NotStrict) as told:
        read_json(data, what="it")
    assert words in str(told.value)


def test_what_breaks_the_grammar_is_told_with_its_place() -> None:
    with pytest.raises(json.JSONDecodeError) as told:
        read_json('{"a": }', what="it")
    assert told.value.colno == 7


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_byte_order_mark_is_no_part_of_it(mark: str) -> None:
    text = mark + '{"a": [1, 2.5, "ä", null, true]}'
    assert read_json(text, what="it") == read_json(text.encode(), what="it") == {"a": [1, 2.5, "ä", None, True]}


def test_a_name_that_stands_twice_is_found_among_very_many() -> None:
    body = json.dumps({f"name {n}": n for n in range(200_000)})[:-1] + ', "z": 1, "z": 2}'
    started = time.process_time()
    with pytest.raises(NotStrict, match="the name 'z' stands twice"):
        read_json(body, what="it")
    assert time.process_time() - started < 20, "comparing each with each takes minutes"


def _parameters(text: str) -> None:
    stage_of("noop", param=None, parameters=text, concurrency=0, max_tries=0, max_run_seconds=0)


@pytest.mark.parametrize(("option", "reader"), [("--selection", selection_of), ("--parameters", _parameters)])
@pytest.mark.parametrize("what", [name for name in REFUSED if name != "no UTF-8"])
def test_the_command_line_reads_as_strictly(option: str, reader: Callable[[str], object], what: str) -> None:
    with pytest.raises(InvalidInput, match=option) as told:
        reader(f'{{"missing": {REFUSED[what][0].decode()}}}')
    assert told.value.code == f"bad_{option.removeprefix('--')}"


def test_a_file_with_a_selection_is_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "selection.json"
    file.write_bytes(b'\xef\xbb\xbf{"missing": "scan"}')
    typed = selection_of(f"@{file}")
    assert typed is not None
    assert typed.missing == "scan"
    file.write_bytes(b'{"missing": "\xff"}')
    with pytest.raises(InvalidInput, match="--selection is no UTF-8: byte 14"):
        selection_of(f"@{file}")
