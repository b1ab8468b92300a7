"""The parser of task files: CommonMark's blocks, by markdown-it, and what stands in them.

A heading, list or fence is what CommonMark says it is; our own are only the rules about boxes. Block rules suffice:
what is bold or a link changes nothing, so the inline parser, most of the time of a whole parse, doesn't run.

- A task is a list item (`-`, `*`, `+`, `1.`; nested and quoted ones too) whose first block is a paragraph that begins
  with `[ ]`, `[x]` or `[X]` and white space. Nested tasks are tasks of their own. `[~]` and all others are no boxes.
- A section begins at a `##` of the document itself: none in a fence, a comment, a quote or a list item. A `#` after
  the first `##` ends the section before it; what follows up to the next `##` is one of its own.
- Lines end with LF, CR LF or CR. A byte that is no UTF-8 stands as U+FFFD in texts.

Pure: bytes in, values out. What can't be read at all (UTF-16, more than MAX_FILE_BYTES) is refused here; problems of
single lines are findings of the file that comes back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

from penstock.runtime.errors import InvalidInput, TooLarge
from penstock.tasks.marks import read_marks
from penstock.tasks.model import Finding, Section, Task, TaskFile

__all__ = ["MAX_FILE_BYTES", "parse"]

MAX_FILE_BYTES = 4 << 20
MAX_TITLE_CHARACTERS = 300
LINES_TOLD = 5
MAX_DEPTH = 100
"""Lists and quotes within each other; markdown-it stops at 20, and what is deeper would be lost without a word."""

BEFORE = "(before the first section)"
UNTITLED = "(no title)"
_NEEDED = {
    "fence": re.compile("```|~~~"),
    "blockquote": re.compile(">"),
    "html_block": re.compile("<"),
    "reference": re.compile(r"\]:"),
    "lheading": re.compile(r"\n[ \t>]*(?:=+|-+)[ \t]*(?:\n|\Z)"),
}
"""What a file must hold somewhere before a rule of markdown-it can find anything."""

_BOM = b"\xef\xbb\xbf"
_BOX = re.compile(r"\[([ xX])\](?=[ \t\n]|\Z)")
_LINE_END = re.compile(r"\r\n?|\n")
_LINE_END_BYTES = re.compile(rb"\r\n?|\n")
_ESCAPED = re.compile("[\udc80-\udcff]")
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f]+")


def parse(data: bytes, *, name: str = "the task file") -> TaskFile:
    """The tasks of a file; `name` is what messages call it. Raises InvalidInput, TooLarge."""
    if len(data) > MAX_FILE_BYTES:
        raise TooLarge(
            f"{name} has {len(data):,} bytes, a task file may have {MAX_FILE_BYTES:,}", code="task_file_too_large"
        )
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise InvalidInput(f"{name} is UTF-16: save it as UTF-8", code="not_utf8")
    source = _Source(data)
    reader = _Reader(source)
    reader.read(_blocks(source.text))
    tasks = tuple(task for section in reader.sections for task in section.tasks)
    return TaskFile(
        name=name,
        tasks=tasks,
        sections=_sections(reader.sections),
        problems=tuple(_repeated(tasks)),
        warnings=tuple(sorted((*source.warnings, *reader.warnings), key=lambda finding: finding.line)),
    )


class _Block(NamedTuple):
    """A heading of the document (level 1-6), or the paragraph that a list item begins with (level 0). line: from 0."""

    level: int
    line: int
    text: str


def _blocks(text: str) -> list[_Block]:
    # A parser of its own for each file: one that is shared compiles its rules on first use, which no lock guards.
    parser = MarkdownIt("commonmark", {"maxNesting": MAX_DEPTH})
    parser.core.ruler.enableOnly(["normalize", "block"])
    # Every line is offered to every rule: a third of the time goes where nothing of the kind is in the file.
    parser.disable([rule for rule, sign in _NEEDED.items() if sign.search(text) is None])
    # The tokens, many times the memory of what is wanted of them, go before anything is made of it: the garbage
    # collector would walk through them again and again.
    tokens = parser.parse(text)
    blocks = []
    for at, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0:
            blocks.append(_block(int(token.tag[1]), tokens[at + 1]))
        elif token.type == "list_item_open" and tokens[at + 1].type == "paragraph_open":
            blocks.append(_block(0, tokens[at + 2]))
    return blocks


def _block(level: int, inline: Token) -> _Block:
    assert inline.map is not None
    return _Block(level, inline.map[0], inline.content)


class _Source:
    """The file as text that markdown-it takes, and the way back from a place in it to a byte."""

    def __init__(self, data: bytes) -> None:
        first = len(_BOM) if data.startswith(_BOM) else 0
        whole = data[first:].decode("utf-8", "surrogateescape")
        self._lines = _LINE_END.split(whole)
        self._starts = [first, *(end.end() for end in _LINE_END_BYTES.finditer(data, first))]
        self.warnings: list[Finding] = []
        lines = "\n".join(self._lines)
        # A sign stands for each byte that is no UTF-8: places stay the same.
        self.text = lines if lines.isascii() else _ESCAPED.sub("\N{REPLACEMENT CHARACTER}", lines)
        if self.text != lines:
            line = next(number for number, line in enumerate(self._lines, 1) if _ESCAPED.search(line))
            self.warnings.append(
                Finding(code="not_utf8", line=line, message=f"line {line} is not UTF-8: such bytes are shown as �")
            )

    def place_of(self, line: int, tail: str) -> int | None:
        """The byte at which the end of this line (from 0) that reads `tail` begins.

        None where that doesn't stand behind a space or tab: of a paragraph's ends, markdown-it trims more than those.
        """
        whole = self._lines[line].rstrip()
        at = len(whole) - len(tail.rstrip())
        if at < 1 or whole[at - 1] not in " \t" or whole[at : at + 3] != tail[:3]:
            return None
        # Before a box stand marks of lists and quotes, spaces and tabs: a byte each.
        return self._starts[line] + at


@dataclass
class _Open:
    """A section while its tasks come in. level: of the heading that opened it; 0: the beginning of the file."""

    level: int
    title: str
    line: int
    path: tuple[str, ...]
    tasks: list[Task] = field(default_factory=list)


class _Reader:
    """Goes through the blocks once."""

    def __init__(self, source: _Source) -> None:
        self._source = source
        self._headings: list[tuple[int, str]] = []
        self._path: tuple[str, ...] = ()
        self.sections = [_Open(0, "", 1, ())]
        self.warnings: list[Finding] = []

    def read(self, blocks: Sequence[_Block]) -> None:
        for block in blocks:
            if block.level:
                self._heading(block)
            elif (box := _BOX.match(block.text)) is not None:
                self._box(block, box)

    def _heading(self, block: _Block) -> None:
        level, title = block.level, _UNSHOWN.sub(" ", block.text)
        self._headings = [*((other, text) for other, text in self._headings if other < level), (level, title)]
        self._path = tuple(text for _, text in self._headings)
        if level <= 2:
            self.sections.append(_Open(level, title, block.line + 1, self._path))

    def _box(self, block: _Block, box: re.Match[str]) -> None:
        line = block.line
        first, *others = block.text.split("\n")
        place = self._source.place_of(line, first)
        if place is None:
            return
        written = " ".join((first[box.end() :], *(other.strip() for other in others))) if others else first[box.end() :]
        marks = read_marks(written)
        if not marks.text and not marks.id:
            if box[1] == " ":
                message = f"line {line + 1} has a box without a text: that is no task"
                self.warnings.append(Finding(code="empty_box", line=line + 1, message=message))
            return
        self.sections[-1].tasks.append(
            Task(
                id=marks.id or f"L{line + 1}",
                text=marks.text,
                line=line + 1,
                done=box[1] != " ",
                parallel=marks.parallel,
                stories=marks.stories,
                depends_on=marks.depends_on,
                path=self._path,
                mark_at=place + 1,
            )
        )


def _sections(found: Sequence[_Open]) -> tuple[Section, ...]:
    if not any(section.level == 2 for section in found):
        return ()
    # A key may depend on titles only: with a number that counted open tasks, ticking the last task of one section
    # would give its key to the next of the same title, and its results with it.
    counted = [section for section in found if section.level == 2 or section.tasks]
    names = [_name(section) for section in counted]
    reserved, numbers = set(names), dict[str, int]()
    sections = []
    for section, name in zip(counted, names, strict=True):
        number = numbers.get(name, 0) + 1
        while number > 1 and f"{name} ({number})" in reserved:
            number += 1
        numbers[name] = number
        key = name if number == 1 else f"{name} ({number})"
        if section.tasks:
            sections.append(
                Section(
                    key=key,
                    title=section.title,
                    line=section.line,
                    path=section.path,
                    tasks=tuple(section.tasks),
                )
            )
    return tuple(sections)


def _name(section: _Open) -> str:
    if section.level == 0:
        return BEFORE
    title = section.title.strip()
    if len(title) > MAX_TITLE_CHARACTERS:
        title = title[: MAX_TITLE_CHARACTERS - 1] + "…"
    return title or UNTITLED


def _repeated(tasks: Sequence[Task]) -> Iterator[Finding]:
    lines: dict[str, list[int]] = {}
    for task in tasks:
        lines.setdefault(task.id, []).append(task.line)
    for name, places in lines.items():
        if len(places) > 1:
            *first, last = places
            told = ", ".join(map(str, first[:LINES_TOLD])) + (" …" if len(first) > LINES_TOLD else "") + f" and {last}"
            yield Finding(
                code="repeated_id",
                line=places[1],
                message=f"{name} stands at lines {told}: each task needs an id of its own",
            )
