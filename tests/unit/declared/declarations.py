"""Declarations for these tests: a small one that is right, and what is put in its place."""

from __future__ import annotations

from collections.abc import Sequence

from penstock.declared.declaration import Declaration, Problem, read

__all__ = ["SMALL", "problems", "right"]

SMALL = """\
name = "trial"
version = "1"
kind = "command"
description = "For trials."
argv = ["true"]
"""


def right(more: str = "", *, small: str = SMALL) -> Declaration:
    found = read((small + more).encode(), name="trial", folder="/declared")
    assert isinstance(found, Declaration), "; ".join(map(str, found))
    return found


def problems(
    more: str = "", *, small: str = SMALL, name: str = "trial", installed: Sequence[str] = ()
) -> list[Problem]:
    found = read((small + more).encode(), name=name, folder="/declared", installed=installed)
    assert not isinstance(found, Declaration), "nothing is wrong with it"
    return found
