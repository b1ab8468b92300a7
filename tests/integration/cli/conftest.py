"""Runs `penstock …` as a user does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers.stack import PENSTOCK, Stack


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


Command = Callable[..., Answer]


def carried_out(*arguments: str | Path, data: Path | None = None, **environment: str) -> Answer:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    if data is not None:
        clean["PENSTOCK_DATA"] = str(data)
    result = subprocess.run(
        [*PENSTOCK, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**clean, **environment},
    )
    assert "Traceback" not in result.stderr, result.stderr
    return Answer(result.returncode, result.stdout, result.stderr)


@pytest.fixture
def penstock(stack: Stack) -> Command:
    """`penstock("runs", "list")` against the shared stack."""

    def run(*arguments: str | Path, **environment: str) -> Answer:
        return carried_out(*arguments, data=stack.data, **environment)

    return run
