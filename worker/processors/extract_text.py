"""From bytes to text: which encoding it is, and what is no text at all.

A byte order mark decides; else UTF-8 if it is UTF-8; else what the bytes look like. `Unreadable` carries the reason
that the document's owner reads. Nothing is normalised: offsets count code points of the text as it is given back.
"""

from __future__ import annotations

import codecs
import re

__all__ = ["MAX_CONTROL_SHARE", "Unreadable", "decode", "require_text"]

MAX_CONTROL_SHARE = 0.10
_SAMPLE_BYTES = 256 << 10

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Tab, line feed, form feed, carriage return and NEL belong to text; escape is what terminals' logs are full of.
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f]")


class Unreadable(Exception):
    """The document can't be read as text, and trying again would not help."""


def decode(data: bytes) -> str:
    """The text of a plain document. Raises Unreadable: empty, binary, undecodable."""
    if not data.strip():
        raise Unreadable("empty: the file has no text")
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return require_text(data.decode(encoding))
            except UnicodeDecodeError as error:
                raise Unreadable(
                    f"undecodable: it begins as {encoding.removesuffix('-sig').upper()} and is broken at byte "
                    f"{error.start + 1:,}"
                ) from None
    if b"\x00" in data:
        raise Unreadable("binary: the file has NUL bytes")
    try:
        return require_text(data.decode())
    except UnicodeDecodeError:
        return require_text(_detected(data))


def require_text(text: str) -> str:
    """The same text. Raises Unreadable when there is none, or when it is mostly no text."""
    if not text.strip():
        raise Unreadable("empty: the file has no text")
    if "\x00" in text:
        raise Unreadable("binary: the file has NUL characters")
    found = len(_CONTROL.findall(text))
    if found > MAX_CONTROL_SHARE * len(text):
        raise Unreadable(
            f"binary: {found / len(text):.0%} of the characters are control characters, at most 10 % are text"
        )
    return text


def _detected(data: bytes) -> str:
    if len(_CONTROL_BYTES.findall(data[:_SAMPLE_BYTES])) > MAX_CONTROL_SHARE * min(len(data), _SAMPLE_BYTES):
        raise Unreadable("binary: more than 10 % of the bytes are control characters")
    for encoding in _likely(_around_first_foreign(data)):
        try:
            return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    raise Unreadable("undecodable: the bytes are no UTF-8 and fit no other encoding; save the file as UTF-8")


def _likely(sample: bytes) -> list[str]:
    """Encodings to try, the likeliest first."""
    import charset_normalizer

    matches = charset_normalizer.from_bytes(sample)
    best = matches.best()
    if best is None:
        return ["cp1252"]
    # Letters of Western Europe are letters in the neighbouring encodings too, only others. What fits equally well is
    # taken for Western (Windows-1252, of which Latin-1 is the printable part): by far the most common of them.
    western = any(
        "cp1252" in (match.encoding, *match.could_be_from_charset) and match.chaos <= best.chaos for match in matches
    )
    return ["cp1252", best.encoding, "latin-1"] if western else [best.encoding, "cp1252"]


_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")


def _around_first_foreign(data: bytes) -> bytes:
    """A part that tells the encoding: detection takes seconds for a large file, and plain ASCII tells nothing."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    foreign = re.search(rb"[\x80-\xff]", data)
    start = max(0, (foreign.start() if foreign else 0) - 1_000)
    return data[start : start + _SAMPLE_BYTES]
