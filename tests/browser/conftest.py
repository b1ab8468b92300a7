"""Tests of the page need a browser."""

from __future__ import annotations

import pytest

from tests.browser.chromium import found


@pytest.fixture(scope="package", autouse=True)
def chromium() -> None:
    if isinstance(reason := found(), str):
        pytest.skip(reason)
