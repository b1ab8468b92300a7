"""A name in a TOML file is found on its line, however it is written."""

from __future__ import annotations

import pytest

from penstock.declared.places import Places

TEXT = '''\
a = 1
b.c = 2
text = """
d = 4
[e]
"""
[f]
g = [
  1,
]
[f."h i".j]
'k' = { l = 3 }
[[m]]
n = """one""" # ""
o = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (["a"], 1),
        (["b"], 2),
        (["b", "c"], 2),
        (["d"], 0),
        (["e"], 0),
        (["f"], 7),
        (["f", "g", 0], 8),
        (["f", "h i", "j"], 11),
        (["f", "h i", "j", "k", "l"], 12),
        (["m", "n"], 14),
        (["m", "o"], 15),
        (["nobody", "here"], 0),
        ([], 0),
    ],
)
def test_the_line_of_a_name(path: list[str | int], line: int) -> None:
    assert Places(TEXT).line(path) == line
