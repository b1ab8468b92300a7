"""What users run changes only where somebody has looked at the difference."""

from __future__ import annotations

import pytest

from tests.cluster.chart.golden import FOLDER, golden
from tests.cluster.chart.rendering import CHART, HERE, VALUES, Refused, helm


@pytest.mark.parametrize("name", VALUES)
def test_a_render_is_the_golden_one(name: str) -> None:
    kept = (FOLDER / f"{name}.yaml").read_text()
    assert golden(name) == kept, "look at the difference, then: python -m tests.cluster.chart.golden --write"


def test_every_golden_render_has_its_values() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == list(VALUES)
    assert len(VALUES) >= 6


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_passes_lint(name: str) -> None:
    try:
        helm("lint", "--strict", str(CHART), "--values", str(HERE / "values" / f"{name}.yaml"))
    except Refused as error:
        pytest.fail(str(error))
