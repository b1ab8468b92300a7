"""A program of the cluster for tests: started, frozen, thawed, stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.programs.daemon import Daemon


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon("sleeper", ["sleep", "100"], logs=tmp_path)
    daemon.start()
    yield daemon
    daemon.stop()


def test_a_program_that_is_frozen_stands_though_a_thread_ends_meanwhile(
    sleeper: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one that was in the folder of threads, and is not there when it is looked at."""
    glob = Path.glob

    def with_one_that_ended(folder: Path, pattern: str) -> Iterator[Path]:
        yield folder / "0" / "stat"
        yield from glob(folder, pattern)

    monkeypatch.setattr(Path, "glob", with_one_that_ended)
    assert not sleeper._stands()
    sleeper.freeze()
    assert sleeper._stands()
