"""Which bytes are text, in which encoding, and what is said of those that are not."""

from __future__ import annotations

import codecs
import random

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
        FRENCH.encode("utf-16-le"),
        FRENCH.encode("utf-16-be"),
        FRENCH.encode("utf-32"),
        codecs.BOM_UTF32_BE + FRENCH.encode("utf-32-be"),
        FRENCH.encode("latin-1"),
    ],
    ids=[
        "utf-8",
        "utf-8-bom",
        "utf-16-le",
        "utf-16-be",
        "utf-16-le-bare",
        "utf-16-be-bare",
        "utf-32-le",
        "utf-32-be",
        "latin-1",
    ],
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
        ("これは日本語の文章です。文字コードを判定するための試験です。", "euc-jp"),
        ("这是一个中文句子，用来测试编码检测。今天天气很好，我们去公园散步。", "gb18030"),
        ("這是一個中文句子，用來測試編碼檢測。今天天氣很好，我們去公園散步。", "big5"),
        ("안녕하세요. 오늘 날씨가 좋습니다. 우리는 공원에 갑니다. ", "euc-kr"),
        ("Καλημέρα σας, τι κάνετε σήμερα; Ο καιρός είναι ωραίος. ", "cp1253"),
        ("Zażółć gęślą jaźń. Pójdź, kińże tę chmurność w głąb flaszy. ", "cp1250"),
    ],
)
def test_other_encodings_are_detected(text: str, encoding: str) -> None:
    assert decode((text * 5).encode(encoding)) == text * 5


@pytest.mark.parametrize("times", [1, 5])
@pytest.mark.parametrize(
    "text",
    [
        "déjà vu",
        "It was a feeling of déjà vu, she said, and left the café. ",
        "The menu is à la carte. " + "Plain words here and there. " * 20,
        "A irmã de João não está à espera; são três corações. ",
        "Åsa åkte båt över sjön på lördag, men Örjan är hemma. ",
        "Rødgrød med fløde på øen; hæren går. ",
        "Það er gott veður í dag, þegar ég fer út. ",
        "It costs £5 and not £6, at 20° outside. © 2020",
        "It ends in a café",
    ],
)
def test_western_text_is_taken_for_western(text: str, times: int) -> None:
    assert decode((text * times).encode("latin-1")) == text * times


@pytest.mark.parametrize(
    ("data", "at"),
    [
        (b"caf\xc3\xa9 " * 3 + b"one wrong \xff byte, na\xc3\xafve", "29"),
        (b"caf\xc3\xa9 \xff", "7"),
        ("“Quoted”, he said – and left. ".encode() + b"\xe2\x80", "37"),
        (b"A plain text that is cut in its only accent, caf\xc3", "49"),
        (b"A plain text that is cut in its only quote, it\xe2\x80", "47"),
        ("مرحبا بكم في هذا المكان الجميل. ".encode() * 5 + b"\xd9", "286"),
        ("これは日本語の文章です。".encode() * 50 + b"\x80" + "これは".encode(), "1,801"),
        ("Привет, как дела? ".encode() * 9_000 + b"\xd0 and on", "279,001"),
    ],
)
def test_broken_utf_8_is_refused_and_not_read_as_something_else(data: bytes, at: str) -> None:
    with pytest.raises(Unreadable, match=rf"^broken UTF-8 at byte {at};"):
        decode(data)


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
        (bytes([0x81, 0x8D, 0x8F, 0x90, 0x9D]) * 100, "undecodable"),
        (random.Random(1).choices(range(128, 256), k=500), "undecodable"),
        (random.Random(2).choices([*range(32, 127), *range(128, 256)], k=2000), "undecodable"),
        ([*random.Random(3).choices(range(128, 256), k=24), *b"plain words"], "undecodable"),
        ("a\x00b".encode("utf-16"), "binary"),
        ("a\x00b".encode("utf-16-le"), "binary"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "binary"),
    ],
)
def test_what_is_no_text_says_why(data: bytes | list[int], reason: str) -> None:
    with pytest.raises(Unreadable, match=f"^{reason}: "):
        decode(bytes(data))


def test_a_tenth_of_control_characters_is_still_text() -> None:
    assert decode(b"a" * 90 + b"\x01" * 10)
    with pytest.raises(Unreadable, match="binary"):
        decode(b"a" * 89 + b"\x01" * 11)


def test_broken_utf_8_in_a_large_file_is_read_in_bounded_time() -> None:
    data = b"plain words here " * 500_000 + b"caf\xe9 cr\xe8me \xe0 la carte " * 10
    text = decode(data)
    assert len(text) == len(data)
    assert text.endswith("café crème à la carte ")
