"""Commands that operators find in the pages are ones: as a shell takes them, with options that there are."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from penstock.cli.app import app

ROOT = Path(__file__).resolve().parent.parent.parent.parent
DOCS = ROOT / "docs"
PAGES = (*sorted((DOCS / "operating").glob("*.md")), DOCS / "cluster.md", DOCS / "operating.md", DOCS / "workers.md")
PENSTOCK: Any = typer.main.get_command(app)
GOLDEN = ROOT / "tests" / "cluster" / "chart" / "golden" / "minimal.yaml"


def lines(page: Path) -> Iterator[str]:
    """Each command of its blocks and of what stands in its text as code, continued lines joined."""
    inside = False
    text = ""
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            inside = not inside
        elif inside:
            yield line
        else:
            text += f"{line} "
    yield from re.findall(r"(?<!`)`([^`]+)`(?!`)", text)


def ours(page: Path) -> Iterator[list[str]]:
    """The words after `penstock`, up to a comment or a pipe."""
    for line in lines(page):
        if not re.match(r"penstock(_in)? [a-z]", line):
            continue
        words = shlex.split(line, comments=True)[1:]
        yield words[: words.index("|")] if "|" in words else words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_a_command_of_a_page_is_one(page: Path) -> None:
    for words in ours(page):
        command = PENSTOCK
        left = list(words)
        while left and hasattr(command, "commands") and left[0] in command.commands:
            command = command.commands[left.pop(0)]
        if hasattr(command, "commands"):
            assert not left or left[0] == "…", f"penstock {' '.join(words)}: there is no {left[0]}"
        options = {option for one in command.params for option in one.opts + one.secondary_opts}
        for word in left:
            if word.startswith("-"):
                assert word.partition("=")[0] in options, f"penstock {' '.join(words)}"


def test_there_are_commands_to_be_looked_at() -> None:
    assert sum(1 for page in PAGES for _ in ours(page)) > 50


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_a_log_by_labels_is_read_from_its_begin(page: Path) -> None:
    """By labels, kubectl shows the last ten lines of each pod, where the looked-for one hardly ever is."""
    for line in lines(page):
        if re.search(r"kubectl .*\blogs\b.* -l ", line):
            assert "--tail=" in line, line
            assert "app.kubernetes.io/instance=" in line, line


def test_a_shell_leaves_what_helm_is_to_have() -> None:
    files = [line for line in lines(DOCS / "cluster.md") if "--set-file" in line]
    assert files
    for line in files:
        for word in shlex.split(line):
            assert word == "--set-file" or re.fullmatch(r"processors[.][^.]+\\[.][a-z]+=\S+", word), word


def test_the_command_line_in_the_gateway_has_what_is_mounted_there() -> None:
    (line,) = [line for line in lines(DOCS / "cluster.md") if line.startswith("penstock_in() ")]
    file = re.search(r"--token-file (\S+)/token ", line)
    assert file
    assert f"mountPath: {file[1]}\n" in GOLDEN.read_text()
    assert re.search(r"key: admin-token\n +path: token\n", GOLDEN.read_text())
