"""The model file: small, with its origin, refused when it does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from analyzer.domain.model import ModelError, default_path, hedged, load, save


def test_the_shipped_file_is_small_and_says_where_it_comes_from() -> None:
    assert default_path().stat().st_size <= 500_000
    provenance = load(default_path()).provenance
    assert {"date", "data", "data_sha256", "metrics", "made_by"} <= provenance.keys()
    assert "licence" in json.dumps(provenance["data"])


def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path: Path) -> None:
    save(load(default_path()), tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == default_path().read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 99},
        {"weights": [1, 2]},
        {"symbols": ["the"]},
        {"familiar": "0"},
        {"style": {}},
        {"calibration": None},
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(default_path().read_text()) | change))
    with pytest.raises(ModelError):
        load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing\.json"):
        load(tmp_path / "nothing.json")


def test_hedging_keeps_the_order_and_stays_at_medium() -> None:
    chances = np.linspace(0, 1, 101)
    found = hedged(chances)
    assert (np.diff(found) > 0).all()
    assert found.max() <= 0.7
    assert (found[chances <= 0.5] == chances[chances <= 0.5]).all()


def test_only_scholarly_prose_in_new_words_is_foreign() -> None:
    model = load(default_path())
    assert model.is_foreign(model.most_unfamiliar + 0.01, 5.5)
    assert not model.is_foreign(model.most_unfamiliar + 0.01, 4.6)
    assert not model.is_foreign(model.most_unfamiliar, 5.5)
