"""From bytes to text: which encoding it is, and what is no text at all.

A byte order mark decides; else UTF-8 if it is UTF-8, and UTF-8 that is broken is refused, not read as something else;
else what the bytes look like, Western before all others, and only with some certainty. `Unreadable` carries the reason
that the document's owner reads. Nothing is normalised: offsets count code points of the text as it is given back.
"""

from __future__ import annotations

import codecs
import contextlib
import re

__all__ = ["MAX_CONTROL_SHARE", "Unreadable", "decode", "require_text"]

MAX_CONTROL_SHARE = 0.10
_SAMPLE_BYTES = 256 << 10
_CLEARLY = 0.1
_MIN_COHERENCE = 0.2
"""Of the letters' frequencies with those of a language, as charset-normalizer measures it."""
_BASE_SETS = {
    "big5": "big5", "big5hkscs": "big5", "cp950": "big5",
    "gb2312": "gb2312", "gbk": "gb2312", "gb18030": "gb2312", "hz": "gb2312",
    "cp949": "euc_kr", "euc_kr": "euc_kr", "johab": "euc_kr",
    "cp932": "euc_jp", "shift_jis": "euc_jp", "shift_jis_2004": "euc_jp", "shift_jisx0213": "euc_jp",
    "euc_jp": "euc_jp", "euc_jis_2004": "euc_jp", "euc_jisx0213": "euc_jp", "iso2022_jp": "euc_jp",
}  # fmt: skip
"""What is coherent can't be told of encodings with thousands of characters; what is common can."""

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
        with contextlib.suppress(UnicodeDecodeError, Unreadable):
            return require_text(data.decode(_utf_16(data) or "ascii"))
        raise Unreadable("binary: the file has NUL bytes")
    try:
        return require_text(data.decode())
    except UnicodeDecodeError as error:
        if _is_broken_utf_8(data, error.start):
            raise Unreadable(f"broken UTF-8 at byte {error.start + 1:,}; save the file as UTF-8 again") from None
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


def _utf_16(data: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of a text in Latin letters is NUL."""
    sample = data[:_SAMPLE_BYTES]
    first, second = sample[::2].count(0), sample[1::2].count(0)
    if 10 * max(first, second) < 4 * len(sample[::2]) or 10 * min(first, second) > max(first, second):
        return None
    return "utf-16-be" if first > second else "utf-16-le"


def _is_broken_utf_8(data: bytes, start: int) -> bool:
    """Is at least half of what is not ASCII whole sequences of UTF-8, or is nothing wrong but a cut end? `start` is
    the first wrong byte.

    Other encodings have such sequences by chance: of Chinese in GB18030 about 1 in 7 pairs of bytes, of Western and
    Russian text hardly any.
    """
    if len(data) - start <= 3 and _CUT.fullmatch(data, start):
        return True
    rest, whole = _UTF_8.subn(b"", _around_first_foreign(data))
    return whole >= len(_FOREIGN.findall(rest)) and whole > 0


def _detected(data: bytes) -> str:
    if len(_CONTROL_BYTES.findall(data[:_SAMPLE_BYTES])) > MAX_CONTROL_SHARE * min(len(data), _SAMPLE_BYTES):
        raise Unreadable("binary: more than 10 % of the bytes are control characters")
    for encoding in _likely(_around_first_foreign(data)):
        with contextlib.suppress(UnicodeDecodeError, LookupError):
            return data.decode(encoding)
    raise Unreadable("undecodable: the bytes are no UTF-8 and fit no other encoding; save the file as UTF-8")


def _likely(sample: bytes) -> list[str]:
    """Encodings to try, the likeliest first; none when nothing is likely."""
    import charset_normalizer

    matches = charset_normalizer.from_bytes(sample)
    best = matches.best()
    # Letters of Western Europe are letters in the neighbouring encodings too, only others. What fits about as well is
    # taken for Western (Windows-1252, of which Latin-1 is the printable part): by far the most common of them.
    western = any(
        "cp1252" in (match.encoding, *match.could_be_from_charset) and best and match.chaos <= best.chaos + _CLEARLY
        for match in matches
    )
    if western or ((best is None or best.coherence < _MIN_COHERENCE) and _is_mostly_ascii(sample)):
        return ["cp1252"]
    if best is None:
        return []
    base = _BASE_SETS.get(best.encoding)
    certain = _share_within(base, str(best)) >= 0.9 if base else best.coherence >= _MIN_COHERENCE
    return [best.encoding] if certain else []


def _is_mostly_ascii(sample: bytes) -> bool:
    """Western words are ASCII letters with an accent here and there."""
    return 2 * len(_FOREIGN.findall(sample)) <= len(_LETTERS.findall(sample)) and not _FOREIGN_RUN.search(sample)


def _share_within(base: str, text: str) -> float:
    """The share of the characters beyond ASCII that the encoding's everyday part has. Noise falls outside of it."""
    foreign = [character.encode(base, "ignore") for character in text if character > "\x7f"]
    return sum(len(code) == 2 and code >= b"\xa1" for code in foreign) / max(1, len(foreign))


_FOREIGN = re.compile(rb"[\x80-\xff]")
_FOREIGN_RUN = re.compile(rb"[\xc0-\xff]{3}")
_LETTERS = re.compile(rb"[A-Za-z]")
_UTF_8 = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
# How sequences of accents, curly quotes and emoji begin. At the end of a text these are no letters that one writes.
_CUT = re.compile(rb"[\xc2\xc3\xe2\xf0]|[\xe0-\xef][\x80-\xbf]|[\xf0-\xf4][\x80-\xbf]{1,2}")
_CONTROL_BYTES = re.compile(rb"[\x00-\x08\x0b\x0e-\x1f\x7f]")


def _around_first_foreign(data: bytes) -> bytes:
    """A part that tells the encoding: detection takes seconds for a large file, and plain ASCII tells nothing."""
    if len(data) <= _SAMPLE_BYTES:
        return data
    foreign = _FOREIGN.search(data)
    start = max(0, (foreign.start() if foreign else 0) - 1_000)
    return data[start : start + _SAMPLE_BYTES]
