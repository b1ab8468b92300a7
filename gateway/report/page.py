"""The sections put together into one page, with the policy that belongs to it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from string import Template

from gateway.report import sections
from gateway.report.gathering import Report, gather
from gateway.report.texts import articles
from penstock import __version__
from penstock.client.asynchronous import AsyncClient
from penstock.client.jobs import COMPLETED
from penstock.v1 import scheduler_pb2

__all__ = ["Page", "render", "report"]


@dataclass(frozen=True)
class Page:
    """html: UTF-8; policy: the Content-Security-Policy, which the page also carries itself."""

    html: bytes
    policy: str


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def policy() -> str:
    return (
        f"default-src 'none'; style-src {_hash(_text('report.css'))}; script-src {_hash(_text('report.js'))}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


async def report(client: AsyncClient, run: scheduler_pb2.Run) -> Page:
    """The report of a job as it is now."""
    gathered = await gather(client, run)
    html = await asyncio.to_thread(render, gathered)
    return Page(html, policy())


def render(gathered: Report) -> bytes:
    made, cut = articles(gathered.texts)
    shown = {text.row.id for text in gathered.texts[: len(gathered.texts) - cut]}
    job = gathered.job
    title = gathered.name or f"Job {job['job_id']}"
    when = (job["completed_at"] or job["created_at"] or "")[:16].replace("T", " ")
    collection = gathered.collection
    embedding = f"{collection.embedding_provider} {collection.embedding_model}".strip() if collection else ""
    parts = (
        ("clusters", "Clusters", sections.clusters(gathered, shown)),
        ("similarity", "Similarity", sections.similarity(gathered)),
        ("similar", "Most similar", sections.similar(gathered, shown)),
        ("failed", "Failed", sections.failures(gathered)),
        ("documents", "Documents", sections.table(gathered, shown)),
        ("texts", "Texts", _texts(gathered, made)),
    )
    links = [("overview", "Overview"), *((place, name) for place, name, part in parts if part)]
    links.append(("limits", "What the number means"))
    html = Template(_text("report.html")).substitute(
        policy=escape(policy()),
        style=_text("report.css"),
        script=_text("report.js"),
        title=escape(title),
        subtitle=escape(
            (f"Job {job['job_id']} · " if gathered.name else "")
            + f"{when} UTC · granularity {job['granularity']}"
            + (f" · embeddings: {embedding}" if embedding else "")
        ),
        notice=sections.notice(gathered),
        cards=sections.cards(gathered),
        nav=" ".join(f'<a href="#{place}">{name}</a>' for place, name in links),
        sections="\n".join(part for _, _, part in parts if part),
        version=__version__,
    )
    return html.encode("utf-8", "replace")


def _texts(gathered: Report, made: list[str]) -> str:
    if not made:
        return ""
    done = gathered.statuses[COMPLETED]
    note = ""
    if len(made) < done:
        note = (
            f'<p class="note">The texts of {len(made):,} of {done:,} documents are here: those with the highest '
            "probabilities, one of each cluster, and the most similar pairs, within the size of a page. "
            "Every other text is in Penstock itself.</p>"
        )
    return (
        '<section id="texts"><h2>Texts</h2><p class="lead">Each segment in the colour of its level; point at one '
        "for its probability, and for what in it speaks for a model or, where it is low, for a person.</p>"
        f"{note}"
        '<ul class="key"><li><i class="h"></i>high <li><i class="m"></i>medium <li><i class="l"></i>low '
        f'<li><i class="u"></i>not judged</ul>{"".join(made)}</section>'
    )
