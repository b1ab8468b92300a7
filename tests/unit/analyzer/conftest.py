"""The shipped detector, and texts of our own to show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from analyzer.domain.detector import Detector
from analyzer.domain.model import default_path, load

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "documents"


@pytest.fixture(scope="session")
def detector() -> Detector:
    return Detector(load(default_path()))


@pytest.fixture(scope="session")
def essay() -> str:
    """A text of some hundred words in several paragraphs."""
    return (EXAMPLES / "plain-archive.txt").read_text()


@pytest.fixture(scope="session")
def essays() -> list[str]:
    return [path.read_text() for path in sorted(EXAMPLES.glob("*.txt"))]
