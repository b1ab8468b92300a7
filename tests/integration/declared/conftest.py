"""Programs of each test's own, in a folder for temporary files of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.declared.programs import Programs
from penstock.runtime.blobs import BlobStore
from tests.integration.declared.trial import Trial, folders


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    for name in ("declared", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    one = Trial(tmp_path / "declared", Programs(), BlobStore(tmp_path / "blobs"))
    yield one
    one.programs.close()
    assert not one.alive(), "processes of the test live on"
    assert not folders(), "folders of items are left"
