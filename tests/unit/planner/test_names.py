"""Names: ignored, equal, refused, made unique."""

from __future__ import annotations

import pytest

from planner.domain import names


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("a.txt", False),
        ("d/a.txt", False),
        ("./a.txt", False),
        ("d/", True),
        ("__MACOSX/a.txt", True),
        ("d/.DS_Store", True),
        (".git/config.txt", True),
        ("d\\.hidden.txt", True),
        ("a..txt", False),
    ],
)
def test_what_archivers_add_is_ignored(name: str, ignored: bool) -> None:
    assert names.is_ignored(name) == ignored


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A.txt", "a.TXT"),
        ("é", "e\u0301"),
        ("a/b", "a\\b"),
        ("./a", "a"),
        ("a//b", "a/b"),
        ("a.", "a"),
        ("ﬁle", "file"),
        ("Straße", "STRASSE"),
    ],
)
def test_names_that_some_system_takes_for_the_same(one: str, other: str) -> None:
    assert names.normalised(one) == names.normalised(other)


def test_equal_names_are_numbered_and_never_meet() -> None:
    taken: set[str] = set()
    counters: dict[str, int] = {}
    sent = ["a.txt", "a (2).txt", "a.txt", "a.txt", "b", "b", ".c", ".c", "d.e/f", "d.e/f"]
    assert [names.unique_name(name, taken, counters) for name in sent] == [
        *("a.txt", "a (2).txt", "a (3).txt", "a (4).txt", "b", "b (2)", ".c", ".c (2)", "d.e/f", "d.e/f (2)"),
    ]


def test_many_equal_names_cost_little() -> None:
    taken: set[str] = set()
    counters: dict[str, int] = {}
    made = [names.unique_name("a.txt", taken, counters) for _ in range(20_000)]
    assert len(set(made)) == 20_000
    assert made[-1] == "a (20000).txt"


def test_sizes_past_a_bound_read_so() -> None:
    assert names.mebibytes(10 << 20) == "10 MiB"
    assert names.mebibytes((10 << 20) + 1) == "10.1 MiB"
    assert names.mebibytes(999) == "999 bytes"
