"""Each alert of the chart has a page that says what to do, and rests on metrics that programs tell."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from penstock.runtime import metrics

ROOT = Path(__file__).resolve().parent.parent.parent.parent
FILES = ROOT / "charts" / "penstock" / "files"
PAGES = ROOT / "docs" / "operating"
ALERTS = yaml.safe_load((FILES / "alerts.yaml").read_text())
OF_PROMETHEUS = {"up"}


def told() -> set[str]:
    """The names of all series that programs tell."""
    names = set()
    for metric in vars(metrics).values():
        if not isinstance(metric, MetricWrapperBase):
            continue
        name = next(iter(metric.describe())).name
        if isinstance(metric, Counter):
            names.add(f"{name}_total")
        elif isinstance(metric, Histogram):
            names |= {f"{name}_{part}" for part in ("bucket", "count", "sum")}
        else:
            names.add(name)
    return names


def used(expression: str) -> set[str]:
    return set(re.findall(r"\b(penstock_[a-z_]+|up)(?=\{)", expression))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_rests_on_metrics_that_are_told(alert: dict[str, str]) -> None:
    names = used(alert["expr"])
    assert names, "it asks for nothing"
    assert names - OF_PROMETHEUS <= told()
    # Every series of it is one of this release.
    assert len(re.findall(r"\{SELECT", alert["expr"])) == len(re.findall(r"\b(?:penstock_[a-z_]+|up)\{", alert["expr"]))
    assert alert["severity"] in ("critical", "warning")


def test_the_dashboard_rests_on_metrics_that_are_told() -> None:
    dashboard = json.loads((FILES / "dashboard.json").read_text())
    assert len(dashboard["panels"]) >= 12
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            assert used(target["expr"]), panel["title"]
            assert used(target["expr"]) <= told(), panel["title"]


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    names = {alert["alert"] for alert in ALERTS}
    assert len(names) == len(ALERTS)
    assert names == {path.stem for path in PAGES.glob("Penstock*.md")}


@pytest.mark.parametrize("page", sorted(PAGES.glob("Penstock*.md")), ids=lambda page: str(page.stem))
def test_a_page_says_what_it_means_what_to_look_at_and_what_to_do(page: Path) -> None:
    text = page.read_text()
    assert text.startswith(f"# {page.stem}\n")
    assert "\n**Means.** " in text
    assert "\n**Look.**" in text
    assert "\n**Do.** " in text
