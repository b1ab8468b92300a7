"""A declaration says what is wrong with it, all of it, and where; its version changes with its file."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from penstock.declared.command import processor_of
from penstock.declared.declaration import MAX_FILE_BYTES, Problem, read
from penstock.declared.form import Command, Cost, Environment, ExitRule, Form, Parameter
from penstock.declared.programs import Programs
from penstock.processor import validate_parameters
from penstock.runtime.errors import InvalidInput
from tests.unit.declared.declarations import SMALL, problems, right

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "processors.md"


def test_the_version_names_the_file() -> None:
    digest = hashlib.sha256(SMALL.encode()).hexdigest()
    assert right().version == f"1+{digest[:12]}"
    assert right().file_hash == digest
    assert right("# a word more\n").version != right().version


def test_all_that_is_wrong_is_told_with_its_line() -> None:
    text = """\
name = "other"
version = 1
kind = "shell"
description = "x"
argv = ["sh", "{payload}", "{nobody}"]
limits = ["domain:{key}"]
wall_second = 3

[parameters.top]
type = "integer"
default = 0
minimum = 1

[payload]
type = "object"
[payload.properties."page.url"]
type = "text"
format = "uri"

[exit.0]
kind = "item"
[exit.9]
kind = "sad"
"""
    found = problems(small=text, installed=["other"])
    assert [(one.line, re.sub(r"\W.*", "", one.text.removeprefix("exit."))) for one in found] == [
        (1, "name"),
        (1, "other"),
        (2, "version"),
        (3, "kind"),
        (5, "argv"),
        (5, "argv"),
        (6, "limits"),
        (7, "wall_second"),
        (11, "parameter"),
        (17, "type"),
        (18, "format"),
        (20, "0"),
        (23, "9"),
    ]
    assert "worker_lost" not in found[-1].text
    assert "throttled" in found[-1].text


@pytest.mark.parametrize(
    ("more", "line", "word"),
    [
        ("[environment]\nset = { A = '1' }\nallow = ['A']\n", 6, "either set here or passed"),
        ("[environment]\nneeds = ['9A']\n", 7, "no name"),
        ("[environment]\nallow = ['PENSTOCK_TOKEN_FILE']\n", 7, "own settings"),
        ("paid = true\n", 6, "[cost]"),
        ("[cost]\ndollars = 'a'\nmicros = 'b'\n", 6, "either dollars or micros"),
        ("[cost]\ndollars = 'a..b'\n", 7, "pattern"),
        ("input = 'file'\n", 5, "{input} stands nowhere"),
        ("limits = ['domain:{parameters.site}']\n", 6, "no such parameter"),
        ("[exit.4]\nkind = 'throttled'\n", 6, "closes one of"),
        ("[exit.4]\nkind = 'item'\nlimit = 'a:b'\n", 8, "kind throttled"),
        ("[heal]\nargv = ['x', '{output}']\n", 7, "output"),
        ("[heal]\nargv = ['{payload.program}']\n", 7, "program"),
        ("[confirm]\nargv = []\n", 7, "at least 1"),
        ("[parameters.class]\ntype = 'string'\n", 6, "word that Python keeps"),
        ("[parameters.a]\ntype = 'boolean'\nenum = [1]\n", 8, "not of type boolean"),
        ("[parameters.a]\ntype = 'date'\n", 7, "'string', 'integer'"),
        ("[payload]\n'$ref' = '#'\n", 7, "keywords that are checked"),
        ("wall_seconds = nan\n", 6, "wall_seconds"),
        ("memory_bytes = '1G'\n", 6, "integer"),
        ("broken", 6, "no TOML"),
        (f"\n[payload]\ndefault = {'9' * 5_000}\nkind = 1\n", 8, "it can't be read: Exceeds the limit (4300"),
        (f"\n[payload]\ndefault = {'[' * 5_000}\nkind = 1\n", 8, "nested too deep"),
        ("version = '2'\n", 6, "overwrite"),
    ],
)
def test_what_can_not_be_is_refused(more: str, line: int, word: str) -> None:
    found = problems(more)
    assert [one.line for one in found] == [line], found
    assert word in found[0].text


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"\xff", "UTF-8"),
        (b"a = 1\n" * MAX_FILE_BYTES, "bytes"),
        (b"a = " + b"[" * 20_000, "TOML"),
        (b"", "name is missing"),
        (b"\xef\xbb\xbfname = 1", "TOML"),
    ],
)
def test_what_is_no_declaration_at_all_is_told(data: bytes, word: str) -> None:
    found = read(data, name="a", folder="/")
    assert isinstance(found, list)
    assert any(word in one.text for one in found), found


def test_a_declaration_has_the_name_of_its_file_and_of_no_installed_processor() -> None:
    assert problems(name="else") == [Problem(1, "name is 'trial' and the file is else.toml: they are the same")]
    assert "installed processor" in problems(installed=["trial"])[0].text


def test_with_a_shell_argv_is_one_script_and_values_stand_outside_of_quotes() -> None:
    two = problems(small=SMALL.replace('["true"]', '["echo", "x"]') + "shell = true\n")
    assert "one text" in two[0].text
    quoted = problems(small=SMALL.replace('["true"]', "['echo \"{payload.x}\"']") + "shell = true\n")
    assert "within quotes" in quoted[0].text


def test_parameters_are_typed_with_their_defaults_and_bounds() -> None:
    kind = processor_of(
        right(
            "[parameters.top]\ntype = 'integer'\ndefault = 3\nmaximum = 9\n"
            "[parameters.tone]\ntype = 'string'\nenum = ['dry', 'warm']\n"
            "[parameters.share]\ntype = 'number'\ndefault = 1\n"
        ),
        Programs(),
    )
    assert validate_parameters(kind, {"tone": "dry"}).model_dump(mode="json") == {"top": 3, "tone": "dry", "share": 1}
    with pytest.raises(InvalidInput) as refused:
        validate_parameters(kind, {"top": 10, "tone": "wet", "share": True, "more": 1})
    for word in ("top: it is 10, it may be at most 9;", "tone: it is 'wet'", "share: it is true", "more:"):
        assert word in refused.value.message
    with pytest.raises(InvalidInput, match="tone"):
        validate_parameters(kind, {})
    schema = kind.parameters_type.model_json_schema()["properties"]
    assert schema["top"] == {"default": 3, "maximum": 9, "title": "Top", "type": "integer"}


def test_the_page_names_every_field() -> None:
    told = set(re.findall(r"`\[?([a-z_]+)(?:\.[A-Z]+)?\]?(?: = [^`]*)?`", PAGE.read_text()))
    for table in (Form, Environment, Parameter, Cost, ExitRule, Command):
        missing = set(table.model_fields) - told
        assert not missing, f"docs/processors.md does not tell of {', '.join(sorted(missing))} of {table.__name__}"


def test_the_declarations_of_page_and_example_are_right() -> None:
    blocks = [block for block in PAGE.read_text().split("```toml\n")[1:] if "kind = " in block]
    assert blocks, "the page has no example"
    for block in blocks:
        text = block.partition("```")[0]
        name = re.search('^name = "(.*)"', text, re.MULTILINE)
        assert name
        found = read(text.encode(), name=name[1], folder="/")
        assert not isinstance(found, list), found
    example = ROOT / "examples" / "reading-ease" / "reading-ease.toml"
    assert not isinstance(read(example.read_bytes(), name="reading-ease", folder="/"), list)
