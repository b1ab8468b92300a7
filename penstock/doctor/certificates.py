"""Judges how long a certificate still holds: under two weeks warns, as the alert does; under one week fails. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from penstock.client.diagnosis_views import CertificateDatesView
from penstock.doctor.findings import Finding, ok, wrong
from penstock.doctor.place import Place

__all__ = ["FAIL_DAYS", "WARN_DAYS", "judge_dates", "judge_end"]

WARN_DAYS, FAIL_DAYS = 14, 7


def judge_dates(program: str, dates: CertificateDatesView, place: Place, *, now_ms: int) -> Iterator[Finding]:
    if dates["refused"] is not None:
        text = f"the new one can't be used, and the older one is kept: {dates['refused']}"
        yield wrong(f"{program} certificate", text, renew(place))
    yield judge_end(f"{program} certificate", dates["end_time"], place, now_ms=now_ms)
    end = judge_end(f"{program} authority", dates["authority_end_time"], place, now_ms=now_ms)
    if end.mend:
        yield end


def judge_end(what: str, end_time: str, place: Place, *, now_ms: int, generation: int = 0) -> Finding:
    """end_time: ISO 8601. generation: of the chart's own certificates, where it is known."""
    end = dt.datetime.fromisoformat(end_time.replace("Z", "+00:00"))
    days = (end.timestamp() - now_ms / 1000) / 86_400
    if days <= 0:
        return wrong(what, f"it ended on {end:%Y-%m-%d}", renew(place, generation))
    text = f"{days:.0f} days left, until {end:%Y-%m-%d}"
    if days >= WARN_DAYS:
        return ok(what, text)
    return wrong(what, text, renew(place, generation), only_warns=days >= FAIL_DAYS)


def renew(place: Place, generation: int = 0) -> str:
    """The chart makes new ones for a higher generation, which it refuses in other modes; others are put in place."""
    if place.release is None:
        return 'cp NEW/ca.crt NEW/tls.crt NEW/tls.key "$PENSTOCK_TLS__FOLDER"'
    if generation:
        return place.release.upgrade(f"--set tls.chart.generation={generation + 1}")
    others = "with tls.mode chart; certManager: cmctl renew; secrets: new ones into the Secret"
    return place.release.upgrade(f"--set tls.chart.generation=ONE-MORE   # {others}")
