"""Task files made for tests, of which the maker knows where each box is: the reference for parser and tick.

Nothing here reads markdown. A page is made of lines whose meaning is known while they are made: headings, lists within
lists and quotes, and what only looks like a task (fences, comments, indented code, brackets in texts).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from hypothesis import strategies as st

__all__ = ["Box", "Page", "pages"]

WORDS = st.sampled_from(
    [
        *(b"Create", b"the [ ] table", b"`[ ] code`", b"- [ ] T901", b"**bold**", b"[x] T001", b"\\[x\\]", b"a <b> c"),
        *(
            "naïve".encode(),
            "🚰 pipe".encode(),
            "日本".encode(),
            "\N{LINE SEPARATOR}".encode(),
            b"\x0b\x0c",
            b"\xff\xe9",
        ),
    ]
)
TEXTS = st.lists(WORDS, max_size=4).map(b" ".join)
DECOYS = st.lists(
    st.sampled_from([b"- [ ] T001 no task", b"* [x] T002 no task", b"## no heading", b"text", b"- [ ] T903"]),
    max_size=3,
)
MARKERS = st.sampled_from([b"-", b"*", b"+", b"1.", b"1)"])
OTHER_MARKS = st.sampled_from([b"[~] T001 ", b"[P] ", b"[] ", b"[ ]T001", b"", b"text [ ] ", b"[x](link) "])
MARKS = st.sampled_from([b" ", b" ", b"x", b"X"])


@dataclass(frozen=True)
class Box:
    """line: from 0; column: the byte in it of the sign between the brackets."""

    id: str
    line: int
    column: int
    mark: bytes


@dataclass
class Page:
    lines: list[bytes] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    ends: list[bytes] = field(default_factory=list)
    bom: bool = False

    def bytes(self, *, ticked: Collection[str] = (), opened: Collection[str] = ()) -> bytes:
        """The file; with these boxes ticked or opened where they weren't."""
        lines = [bytearray(line) for line in self.lines]
        for box in self.boxes:
            if box.id in ticked and box.mark == b" ":
                lines[box.line][box.column] = ord("x")
            if box.id in opened and box.mark != b" ":
                lines[box.line][box.column] = ord(" ")
        parts = [bytes(line) + end for line, end in zip(lines, self.ends, strict=True)]
        return (b"\xef\xbb\xbf" if self.bom else b"") + b"".join(parts)


@st.composite
def pages(draw: st.DrawFn) -> Page:
    page = Page(bom=draw(st.booleans()))
    kinds = st.sampled_from(["heading", "paragraph", "fence", "comment", "code", "list", "list", "list", "quote"])
    for kind in draw(st.lists(kinds, min_size=1, max_size=8)):
        _BLOCKS[kind](draw, page)
        page.lines.append(draw(st.sampled_from([b"", b"  ", b"\t"])) if kind != "quote" else b"")
    if draw(st.booleans()):
        page.lines.pop()
    ends = draw(st.sampled_from([[b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r\n"]]))
    page.ends = [draw(st.sampled_from(ends)) for _ in page.lines]
    if draw(st.booleans()):
        page.ends[-1] = b""
    return page


def _heading(draw: st.DrawFn, page: Page) -> None:
    page.lines.append(b"#" * draw(st.integers(1, 4)) + b" " + draw(TEXTS))


def _paragraph(draw: st.DrawFn, page: Page) -> None:
    page.lines += [b"Some " + draw(TEXTS), b"[ ] T001 and more"]


def _fence(draw: st.DrawFn, page: Page, before: bytes = b"") -> None:
    marks = draw(st.sampled_from([b"```", b"~~~~"]))
    page.lines += [before + line for line in (marks + b" text", *draw(DECOYS), marks)]


def _comment(draw: st.DrawFn, page: Page) -> None:
    page.lines += [b"<!--", *draw(DECOYS), b"-->"]


def _code(draw: st.DrawFn, page: Page) -> None:
    # Behind a heading: behind a list these would be tasks of it.
    page.lines += [b"### Code", b"", *(b"    " + line for line in draw(DECOYS))]


def _list(draw: st.DrawFn, page: Page, before: bytes = b"", depth: int = 0) -> None:
    marker = draw(MARKERS)
    for _ in range(draw(st.integers(1, 3))):
        gap = draw(st.sampled_from([b" ", b" ", b"  ", b"    "]))
        line = before + marker + gap
        if draw(st.booleans()):
            _box(draw, page, line)
        else:
            page.lines.append(line + draw(OTHER_MARKS) + b"item")
        inside = before + b" " * len(marker + gap)
        below = draw(st.sampled_from(["", "", "text", "list", "fence"]))
        if below == "text":
            page.lines.append(inside + b"and " + draw(TEXTS))
        elif below == "fence":
            _fence(draw, page, inside)
        elif below == "list" and depth < 3:
            _list(draw, page, inside, depth + 1)


def _box(draw: st.DrawFn, page: Page, line: bytes) -> None:
    number, mark = len(page.lines), draw(MARKS)
    name = draw(st.sampled_from([f"T{len(page.boxes) + 1:03}", f"L{number + 1}"]))
    words = f"{name} ".encode() if name[0] == "T" else b"a "
    page.boxes.append(Box(name, number, len(line) + 1, mark))
    page.lines.append(line + b"[" + mark + b"] " + words + draw(TEXTS))


def _quote(draw: st.DrawFn, page: Page) -> None:
    _list(draw, page, b"> ")


_BLOCKS = {
    "heading": _heading,
    "paragraph": _paragraph,
    "fence": _fence,
    "comment": _comment,
    "code": _code,
    "list": _list,
    "quote": _quote,
}
