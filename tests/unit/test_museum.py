"""The museum's exhibits, without playing any."""

from __future__ import annotations

import pytest

from tests.museum.__main__ import changed, exhibits
from tests.museum.mutant import Mutant

EXHIBITS = dict(exhibits())


@pytest.mark.parametrize("name", EXHIBITS)
def test_a_defect_can_be_put_in_where_its_file_says(name: str) -> None:
    """A place that has moved is found here, not after the museum has been played."""
    mutant: Mutant = EXHIBITS[name]
    with changed(mutant) as folder:
        for file in {change.file for change in mutant.changes if change.file.endswith(".py")}:
            compile((folder / file).read_text(), file, "exec")
