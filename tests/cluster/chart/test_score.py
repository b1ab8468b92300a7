"""kube-score finds nothing critical in any render, as a strict site runs it: images asked for at each start."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.cluster import tools
from tests.cluster.chart.rendering import VALUES, text

STRICT = ('image.pullPolicy="Always"', "networkPolicy.enabled=true")


@pytest.mark.parametrize("name", VALUES)
def test_kube_score_finds_nothing_critical(name: str) -> None:
    try:
        program = tools.program("kube-score")
    except tools.BuildFailed as error:
        if os.environ.get("PEN_CI"):
            raise
        pytest.skip(str(error))
    done = subprocess.run(
        [str(program), "score", "--output-format", "json", "-"],
        input=text(name, sets=STRICT),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    scored = json.loads(done.stdout)
    assert len(scored) > 10
    critical = [
        f"{one['object_name']}: {check['check']['name']}: {comment['summary']}"
        for one in scored
        for check in one["checks"]
        if check["grade"] == 1 and not check["skipped"]
        for comment in check["comments"] or [{"summary": ""}]
    ]
    assert critical == []
