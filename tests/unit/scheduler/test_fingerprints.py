"""What makes failures equal."""

from __future__ import annotations

import pytest

from scheduler.domain.fingerprints import LENGTH, fingerprint


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("timeout after 31 s", "timeout after 5.25 s"),
        ("no file /srv/a/b.txt", "no file /tmp/other.md"),
        ("unknown key 'abc'", "unknown key 'x y z'"),
        ('bad value "1"', 'bad value "two"'),
        ("object 0xdeadbeef is gone", "object 0x1 is gone"),
        ("request 7f3a9c21-aa00 failed", "request 0123456789ab failed"),
        ("GET https://a.example/x?y=1 answered 503", "GET https://b.example answered 504"),
        ("Refused  by\nthe server", "refused by the server"),
    ],
)
def test_numbers_names_paths_and_addresses_make_no_difference(one: str, other: str) -> None:
    assert fingerprint("item", one) == fingerprint("item", other)


def test_words_and_kinds_do() -> None:
    found = {
        fingerprint("item", "connection refused"),
        fingerprint("item", "connection reset"),
        fingerprint("provider", "connection refused"),
    }
    assert len(found) == 3
    assert all(len(one) == LENGTH and int(one, 16) >= 0 for one in found)


def test_any_text_has_one() -> None:
    assert len(fingerprint("item", "")) == LENGTH
    assert len(fingerprint("item", "\ud800 half a character" * 1_000)) == LENGTH
