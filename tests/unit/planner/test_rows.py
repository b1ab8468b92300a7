"""Lines of an items file: what is read, what is refused and how it is told."""

from __future__ import annotations

import json

import orjson
import pytest

from planner.domain.rows import MAX_DEPTH, MAX_PAYLOAD_BYTES, ItemLines, Row


def read(data: bytes, *, chunk: int = 1 << 20) -> tuple[list[Row], ItemLines]:
    lines = ItemLines()
    rows = [row for at in range(0, len(data), chunk) for part in lines.feed(data[at : at + chunk]) for row in part]
    return rows + lines.end(), lines


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
def test_rows_do_not_depend_on_how_the_bytes_arrive(chunk: int) -> None:
    data = b'\xef\xbb\xbf{"key":"a"}\r\n\n  \n'
    data += b'{"key":"\xc3\xa9","group":"g","payload":{"b": [1, 2]}}\n{"key":"c","group":null}'
    rows, lines = read(data, chunk=chunk)
    assert rows == [(1, "a", "", b"{}"), (4, "é", "g", b'{"b":[1,2]}'), (5, "c", "", b"{}")]
    assert lines.offenders == []


def test_what_is_kept_reads_back_equal() -> None:
    given = {"n": 2**64 - 1, "m": -(2**63), "f": 0.1, "t": "9" * 40, "long": 0.12345678901234567890123}
    ((_, _, _, payload),), lines = read(json.dumps({"key": "a", "payload": given}).encode())
    assert lines.offenders == []
    assert orjson.loads(payload) == json.loads(payload) == given


@pytest.mark.parametrize("number", [b"1", b"123456789012345678"])
def test_a_line_may_be_as_deep_as_the_limit_says_whatever_its_numbers(number: bytes) -> None:
    def deep(levels: int) -> bytes:
        return b'{"key":"a","payload":{"n":%b,"x":%b%b}}\n' % (number, b"[" * levels, b"]" * levels)

    rows, lines = read(
        deep(MAX_DEPTH - 2) + deep(MAX_DEPTH - 1) + b'{"key":"b","payload":{"x":[%b]}}' % (b"[]," * 200 + b"1")
    )
    assert [row[0] for row in rows] == [1, 3]
    assert lines.offenders == [(2, "nested more than 100 deep")]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense", "not JSON"),
        (b'{"key":"a"', "not JSON"),
        (b'{"key":"a"} {"key":"b"}', "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'"key"', "not a JSON object"),
        (b"{}", "no key"),
        (b'{"key":""}', "no key"),
        (b'{"key":"  "}', "no key"),
        (b'{"key":7}', "key 7 is not a text"),
        (b'{"key":"a","group":7}', "group 7"),
        (b'{"key":"a","payload":[1]}', "not an object"),
        (b'{"key":"a","payload":"x"}', "not an object"),
        (b'{"key":"a","paylod":{}}', "unknown field paylod"),
        (b'{"key":"a\\u0000b"}', "control characters"),
        (b'{"key":"a","group":"\\n"}', "control characters"),
        (b'{"key":"' + b"k" * 1_001 + b'"}', "1,001 characters"),
        (b'{"key":"caf\xe9"}', "not UTF-8 at byte 12"),
        (b'{"key":"a","payload":{"x":"' + b"x" * MAX_PAYLOAD_BYTES + b'"}}', "at most 1,048,576"),
        (b'{"key":"a","payload":{"x":NaN}}', "not JSON"),
        (b'{"key":"a","payload":{"x":NaN,"n":123456789012345678901}}', "not JSON"),
        (b'{"key":"a","payload":{"x":"\\ud800","n":123456789012345678901}}', "surrogate"),
        (b'{"key":"\\ud800","payload":{"n":123456789012345678901}}', "surrogate"),
        (b'{"key":"a","payload":{"x":1e999,"n":123456789012345678901}}', "infinity"),
        (b'{"key":"a","payload":{"x":18446744073709551616}}', "18446744073709551616' has more than 64 bits"),
        (b'{"key":"a","payload":{"x":-9223372036854775809}}', "more than 64 bits"),
        (b'{"key":"a","payload":{"x":' + b"9" * 300 + b"}}", "more than 64 bits"),
        (b'{"key":"a","payload":{"x":' + b"9" * 5_000 + b"}}", "infinity"),
        (b'{"key":"a","payload":' + b'{"a":' * 300 + b"1" + b"}" * 301, "nested more than 100 deep"),
        (b'{"key":"a","payload":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, "nested more than 100 deep"),
    ],
)
def test_a_bad_line_is_told_with_its_number(line: bytes, said: str) -> None:
    rows, lines = read(b'{"key":"good"}\n' + line + b'\n{"key":"good too"}\n')
    assert [row[1] for row in rows] == ["good", "good too"]
    ((number, text),) = lines.offenders
    assert number == 2
    assert said in text
    assert len(text) < 300


def test_the_first_ten_offenders_are_enough() -> None:
    _, lines = read(b"bad\n" * 100)
    assert [number for number, _ in lines.offenders] == list(range(1, 11))
    assert lines.hopeless


def test_a_line_without_end_is_given_up() -> None:
    _, lines = read(b'{"key":"a"}\n' + b"x" * (9 << 20))
    assert [number for number, _ in lines.offenders] == [2]
    assert lines.hopeless
