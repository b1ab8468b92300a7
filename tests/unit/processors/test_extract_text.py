"""Which bytes are text, in which encoding, and what is said of those that are not."""

from __future__ import annotations

import codecs

import pytest

from worker.processors.extract_text import Unreadable, decode

FRENCH = "Été où les élèves, à l'école, ont reçu des gâteaux: c'était très bon, voilà. " * 5


@pytest.mark.parametrize(
    "data",
    [
        FRENCH.encode(),
        codecs.BOM_UTF8 + FRENCH.encode(),
        FRENCH.encode("utf-16"),
        codecs.BOM_UTF16_BE + FRENCH.encode("utf-16-be"),
        FRENCH.encode("utf-32"),
        codecs.BOM_UTF32_BE + FRENCH.encode("utf-32-be"),
        FRENCH.encode("latin-1"),
    ],
    ids=["utf-8", "utf-8-bom", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "latin-1"],
)
def test_every_encoding_gives_the_same_text(data: bytes) -> None:
    assert decode(data) == FRENCH


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Die Größe der Straße überrascht die Schüler, während Männer über Bücher reden. ", "cp1252"),
        ("The café’s owner said “hello” – naïve as she was – and left. ", "cp1252"),
        ("El niño pequeño comió una piña mañana en la montaña. ¿Qué pasó? ", "latin-1"),
        ("Привет, как дела? Сегодня хорошая погода, и мы пойдём гулять в парк. ", "cp1251"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy, řeka teče údolím. ", "cp1250"),
        ("これは日本語の文章です。文字コードを判定するための試験です。", "shift_jis"),
    ],
)
def test_other_encodings_are_detected(text: str, encoding: str) -> None:
    assert decode((text * 5).encode(encoding)) == text * 5


def test_text_is_given_back_as_it_is() -> None:
    text = "e\u0301 is not \u00e9\r\n\ttabs\fand\n\n\nlines \U0001f600"
    assert decode(text.encode()) == text


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b" \n\t\r\n", "empty"),
        (codecs.BOM_UTF8 + b"  \n", "empty"),
        (b"abc\x00def", "binary"),
        (b"abc" * 100 + b"\x01\x02" * 40, "binary"),
        (bytes(range(1, 32)) * 50 + b"\xff\xfe\x80", "binary"),
        (codecs.BOM_UTF16_LE + b"a\x00\x00\xd8b\x00", "undecodable"),
        (codecs.BOM_UTF8 + b"caf\xe9", "undecodable"),
        ("a\x00b".encode("utf-16"), "binary"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "binary"),
    ],
)
def test_what_is_no_text_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}: "):
        decode(data)


def test_a_tenth_of_control_characters_is_still_text() -> None:
    assert decode(b"a" * 90 + b"\x01" * 10)
    with pytest.raises(Unreadable, match="binary"):
        decode(b"a" * 89 + b"\x01" * 11)


def test_broken_utf_8_in_a_large_file_is_read_in_bounded_time() -> None:
    data = b"plain words here " * 500_000 + b"caf\xe9 cr\xe8me \xe0 la carte " * 10
    text = decode(data)
    assert len(text) == len(data)
    assert text.endswith("café crème à la carte ")
