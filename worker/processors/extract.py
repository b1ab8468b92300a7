"""The child process that reads one PDF, DOCX or HTML file: `python -P -m worker.processors.extract KIND SECONDS BYTES`.

The file comes as standard input; the text goes to standard output as UTF-8, exit 0. A file that can't be read: exit 3
and the reason instead. It limits itself before it touches a byte (memory, processor time, no new files), and is
killed with its worker; so whatever a hostile file makes of the parser, the worker only sees a child that failed.
"""

from __future__ import annotations

import ctypes
import io
import re
import resource
import signal
import sys
from collections.abc import Callable, Iterator

from worker.processors.extract_text import Unreadable, decode

__all__ = ["EXIT_UNREADABLE", "KINDS", "main"]

EXIT_UNREADABLE = 3
_EXIT_NO_MEMORY = 4
MAX_TEXT_CHARACTERS = 10 << 20

_PR_SET_PDEATHSIG = 1
_SKIPPED = frozenset({"script", "style", "noscript", "template", "head", "svg", "math", "iframe", "object"})
_BLOCKS = frozenset(
    (
        *("address", "article", "aside", "blockquote", "br", "caption", "dd", "div", "dl", "dt", "fieldset"),
        *("figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li", "main"),
        *("nav", "ol", "option", "p", "pre", "section", "table", "td", "th", "tr", "ul"),
    )
)
_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_.:-]{1,40})", re.I)
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


def read_pdf(data: bytes) -> str:
    import pypdf
    from pypdf.errors import PyPdfError

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("the PDF is encrypted; save it without a password")
        pages = _bounded((page.extract_text() or "").strip() for page in reader.pages)
    except (MemoryError, Unreadable):
        raise
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, RecursionError) as error:
        raise Unreadable(f"broken PDF: {_first_line(error)}") from None
    except Exception as error:  # pypdf also lets through what it meets in the libraries below it
        raise Unreadable(f"broken PDF: {type(error).__name__}: {_first_line(error)}") from None
    text = "\n\n".join(page for page in pages if page)
    if not text:
        raise Unreadable("the PDF has no text: its pages may be pictures")
    return text


def read_docx(data: bytes) -> str:
    import docx
    from docx.table import Table

    def blocks(holder: object) -> Iterator[str]:
        for block in holder.iter_inner_content():  # type: ignore[attr-defined]
            if isinstance(block, Table):
                for row in block.rows:
                    for cell in dict.fromkeys(row.cells):
                        yield from blocks(cell)
            else:
                yield block.text

    try:
        text = "\n".join(_bounded(blocks(docx.Document(io.BytesIO(data)))))
    except (MemoryError, Unreadable):
        raise
    except Exception as error:  # zip, XML and python-docx each have their own
        raise Unreadable(f"broken DOCX: {type(error).__name__}: {_first_line(error)}") from None
    if not text.strip():
        raise Unreadable("empty: the DOCX has no text")
    return text


def read_html(data: bytes) -> str:
    import lxml.html
    from lxml.etree import LxmlError

    named = _CHARSET.search(data[:4096])
    try:
        markup = data.decode() if not named or data.startswith(b"\xef\xbb\xbf") else data.decode(named[1].decode())
    except (UnicodeDecodeError, LookupError):
        markup = decode(data)
    markup = _XML_DECLARATION.sub("", markup.removeprefix("\ufeff"))
    if not markup.strip():
        raise Unreadable("empty: the file has no text")
    parser = lxml.html.HTMLParser(huge_tree=True)
    try:
        root = lxml.html.document_fromstring(markup, parser=parser)
    except (LxmlError, ValueError) as error:
        raise Unreadable(f"broken HTML: {_first_line(error)}") from None
    # The parser stops there without an exception, and what follows would be missing from the text.
    limits = [entry.message for entry in parser.error_log if entry.type_name == "ERR_RESOURCE_LIMIT"]
    if limits:
        raise Unreadable(f"too deep or too large an HTML: {limits[0].partition(', use ')[0]}")
    text = "".join(_bounded(_html_pieces(root)))
    lines = (re.sub(r"[ \t\r\f\v]+", " ", line).strip() for line in text.split("\n"))
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
    if not text:
        raise Unreadable("empty: the HTML has no text")
    return text


def _html_pieces(root: object) -> Iterator[str]:
    # Walked by events and not by recursion: nesting has no bound that an author must keep.
    from lxml import etree

    skipped = 0
    for event, element in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        name = element.tag if isinstance(element.tag, str) else ""
        if event == "start":
            skipped += name in _SKIPPED
            if not skipped:
                if name in _BLOCKS:
                    yield "\n"
                yield _words(element.text, name)
        else:
            if event == "end":
                skipped -= name in _SKIPPED
                if not skipped and name in _BLOCKS and name != "br":
                    yield "\n"
            if not skipped:
                yield _words(element.tail, "")


def _words(text: str | None, name: str) -> str:
    if not text:
        return ""
    return text if name == "pre" else re.sub(r"\s+", " ", text)


def _bounded(pieces: Iterator[str]) -> list[str]:
    taken, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_TEXT_CHARACTERS:
            raise Unreadable(f"too large: its text has more than {MAX_TEXT_CHARACTERS >> 20} Mi characters")
        taken.append(piece)
    return taken


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]


KINDS: dict[str, Callable[[bytes], str]] = {"pdf": read_pdf, "docx": read_docx, "html": read_html}


def _limit(seconds: int, memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # standard output is a pipe, which this does not touch
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main(kind: str, seconds: str, memory_bytes: str) -> int:
    _limit(int(seconds), int(memory_bytes))
    sys.setrecursionlimit(3_000)
    try:
        text = KINDS[kind](sys.stdin.buffer.read())
        # What PDF fonts map to nothing comes out as NUL or half a surrogate pair: no text that anyone wrote.
        answer, code = text.replace("\x00", "").encode("utf-8", "replace"), 0
    except Unreadable as error:
        answer, code = str(error).encode("utf-8", "replace"), EXIT_UNREADABLE
    except (MemoryError, RecursionError):
        return _EXIT_NO_MEMORY
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
