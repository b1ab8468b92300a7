"""A processor is given the names that it asks for: variables first, then keys of mounted Secrets as they are now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.runtime.environment import Environment


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Two Secrets as Kubernetes mounts them: a link for each key, by way of a link that changes at once."""
    for secret, keys in (("anthropic", {"API_KEY": "a\n", "REGION": "eu"}), ("github", {"API_KEY": "g", "TOKEN": "t"})):
        data = tmp_path / secret / "..2026"
        data.mkdir(parents=True)
        (tmp_path / secret / "..data").symlink_to(data.name)
        for key, value in keys.items():
            (data / key).write_text(value)
            (tmp_path / secret / key).symlink_to(f"..data/{key}")
    return tmp_path


def test_names_that_are_asked_for_and_there_and_no_others(secrets: Path) -> None:
    environment = Environment(secrets, {"REGION": "us", "OTHER": "x"})
    assert environment.of(["API_KEY", "REGION", "TOKEN", "NONE"]) == {"API_KEY": "a", "REGION": "us", "TOKEN": "t"}


def test_a_changed_key_is_there_at_once(secrets: Path) -> None:
    environment = Environment(secrets, {})
    newer = secrets / "github" / "..2027"
    newer.mkdir()
    (newer / "TOKEN").write_text("new")
    (secrets / "github" / "next").symlink_to(newer.name)
    (secrets / "github" / "next").replace(secrets / "github" / "..data")
    assert environment.of(["TOKEN", "API_KEY"]) == {"TOKEN": "new", "API_KEY": "a"}


@pytest.mark.parametrize("name", ["../github/TOKEN", "..data", "", "*", "TOKEN/"])
def test_a_name_is_no_way_through_the_disk(secrets: Path, name: str) -> None:
    assert Environment(secrets, {}).of([name]) == {}


def test_a_key_that_is_no_text_is_none(secrets: Path) -> None:
    (secrets / "github" / "KEYSTORE").write_bytes(b"\xff\xfe\x00")
    assert Environment(secrets, {}).of(["KEYSTORE"]) == {}


def test_what_no_environment_holds_is_left_out_and_nothing_waits_for_a_pipe(secrets: Path) -> None:
    os.mkfifo(secrets / "github" / "PIPE")
    (secrets / "github" / "NUL").write_bytes(b"a\0b")
    (secrets / "github" / "HUGE").write_text("x" * ((1 << 20) + 1))
    (secrets / "github" / "WHOLE").write_text("x" * (1 << 20))
    found = Environment(secrets, {}).of(["PIPE", "NUL", "HUGE", "WHOLE", "TOKEN"])
    assert {name: len(value) for name, value in found.items()} == {"WHOLE": 1 << 20, "TOKEN": 1}
