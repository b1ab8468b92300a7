"""Documents with their segments coloured, and the reasons for the most telling ones. Every text is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from gateway.report.gathering import Text
from penstock.client.documents import speaks_for

__all__ = ["articles"]

MAX_CHARACTERS = 30_000
MAX_TOTAL = 6_000_000  # characters of HTML of all documents together
MAX_REASONS = 5
QUOTE = 120

LEVELS = {"HIGH": "h", "MEDIUM": "m", "LOW": "l", "UNCERTAIN": "u"}


def articles(texts: Sequence[Text]) -> tuple[list[str], int]:
    """One article a document, all folded but the most telling, and how many did not fit any more."""
    made: list[str] = []
    size = 0
    telling = max(texts, key=lambda text: text.row.ai_probability or 0.0, default=None)
    for text in texts:
        article = _article(text, unfolded=text is telling)
        if size + len(article) > MAX_TOTAL:
            break
        size += len(article)
        made.append(article)
    return made, len(texts) - len(made)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _article(text: Text, *, unfolded: bool) -> str:
    row, details = text.row, text.details
    level = LEVELS.get(row.confidence_level or "", "u")
    body: str = details.get("text", "")
    segments: list[Mapping[str, Any]] = details.get("segments", [])
    abstained = details.get("abstained")
    notes = ""
    if abstained:
        notes += f'<p class="note">No judgement on the whole: {escape(str(abstained))}.</p>'
    if len(body) > MAX_CHARACTERS:
        notes += f'<p class="note">The first {MAX_CHARACTERS:,} of {len(body):,} characters are shown.</p>'
    cluster = "" if row.cluster_id is None else f" · cluster {row.cluster_id}"
    return (
        f'<details class="doc" id="doc-{row.id}"{" open" if unfolded else ""}><summary>'
        f'<span class="num">{row.id}</span><bdi class="name">{escape(row.filename)}</bdi>'
        f'<span class="meta">{row.word_count or 0:,} words{cluster}</span>'
        f'<span class="badge {level}">{_number(row.ai_probability)} {(row.confidence_level or "").lower()}</span>'
        f'</summary>{notes}<div class="text" dir="auto">{"".join(_marked(body[:MAX_CHARACTERS], segments))}</div>'
        f"{_reasons(body, segments)}</details>\n"
    )


def _marked(text: str, segments: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    at = 0
    for segment in sorted(segments, key=lambda one: int(one["start"])):
        start, end = int(segment["start"]), min(int(segment["end"]), len(text))
        if start < at or start >= end:
            continue
        yield escape(text[at:start])
        level = LEVELS.get(segment["confidence_level"], "u")
        reasons = "; ".join(map(str, segment["reasons"]))
        title = f"{_number(segment['ai_probability'])} {segment['confidence_level'].lower()}"
        if reasons:
            title += f"; {speaks_for(segment['confidence_level'])}: {reasons}"
        yield (f'<span class="s {level}" title="{escape(title)}">{escape(text[start:end])}</span>')
        at = end
    yield escape(text[at:])


def _reasons(text: str, segments: Sequence[Mapping[str, Any]]) -> str:
    """The segments that speak loudest, quoted, with why."""
    telling = [one for one in segments if one["reasons"] and one["confidence_level"] in ("HIGH", "MEDIUM")]
    telling.sort(key=lambda one: -(one["ai_probability"] or 0.0))
    if not telling:
        return ""
    lines = []
    for one in telling[:MAX_REASONS]:
        quote = " ".join(text[one["start"] : one["end"]].split())
        if len(quote) > QUOTE:
            quote = quote[:QUOTE].rsplit(" ", 1)[0] + " …"
        level = LEVELS.get(one["confidence_level"], "u")
        lines.append(
            f'<li><span class="badge {level}">{_number(one["ai_probability"])}</span> '
            f"<q>{escape(quote)}</q><br><small>{escape('; '.join(map(str, one['reasons'])))}</small></li>"
        )
    return f'<h4>What speaks for a model</h4><ul class="why">{"".join(lines)}</ul>'
