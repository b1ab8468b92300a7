"""Every command that a document, or the help of a command, tells people to type is one that there is."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from penstock.cli.app import app

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SPAN = re.compile(r"`((?:\.venv/bin/)?penstock [^`]+)`")
LINE = re.compile(r"^ *((?:\.venv/bin/)?penstock .+)$", re.MULTILINE)
EXAMPLE = re.compile(r"(?:^ *|Example: |: )(penstock [a-z].*?)(?:  +.*)?$", re.MULTILINE)
STANDS_FOR = {"RUN": "3", "ITEM": "17", "DOLLARS": "5"}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, group
    for name, command in subcommands(group).items():
        yield from commands(command, (*path, name))


def subcommands(command: Any) -> dict[str, Any]:
    """Of a group; typer has its own classes of them."""
    return getattr(command, "commands", {})


ALL = dict(commands(typer.main.get_command(app)))


def told() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        text = document.read_text()
        blocks = "\n".join(text.split("```")[1::2])
        for found in (*SPAN.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)), *LINE.findall(blocks)):
            yield document.name, found.removeprefix(".venv/bin/")
    for path, command in ALL.items():
        for found in EXAMPLE.findall(re.sub(r"(?<=\S)\n *(?=[\w'\"-])", " ", command.help or "")):
            yield f"--help of {' '.join(path)}", found


def words_of(line: str) -> list[str]:
    words = [STANDS_FOR.get(word, word) for word in shlex.split(line, comments=True)[1:]]
    whole = next((at for at, word in enumerate(words) if word in ("…", "COMMAND")), len(words))
    return words[:whole]


@pytest.mark.parametrize(("where", "line"), sorted(set(told())))
def test_what_is_told_can_be_typed(where: str, line: str) -> None:
    words = words_of(line)
    path: tuple[str, ...] = ()
    while words and (*path, words[0]) in ALL:
        path = (*path, words.pop(0))
    if subcommands(ALL[path]):
        assert not words, f"{where}: {line}: there is no such command"
        return
    try:
        ALL[path].make_context(path[-1], list(words))
    except Exception as error:
        named_only = not words and type(error).__name__ == "MissingParameter"  # told of, not told to be typed so
        if not named_only:
            pytest.fail(f"{where}: {line}: {getattr(error, 'message', error)}")


def test_every_command_teaches() -> None:
    for path, command in ALL.items():
        if path and not subcommands(command):
            assert command.help, path
            for option in command.params:
                assert getattr(option, "help", None) or option.name == "processor", (path, option.name)
    missing = [path for path, command in ALL.items() if len(path) > 1 and "penstock" not in (command.help or "")]
    assert not missing, f"no example: {missing}"
