"""What operators are told of workers and classes that there are not."""

from __future__ import annotations

import pytest

from scheduler.worker_service import _no_class


@pytest.mark.parametrize(("known", "told"), [({"gpu", "default"}, "default, gpu"), ((), "none at all")])
def test_a_class_that_there_is_not_is_told_with_those_that_there_are(known: set[str], told: str) -> None:
    assert _no_class("nope", known).message == f"there is no worker class 'nope'; there are: {told}"
