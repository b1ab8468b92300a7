"""The sections of the report: cards, clusters, similarity, pairs, failures, table.

Pure: data in, HTML out, every text escaped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from html import escape

from gateway.report.gathering import MAX_MEMBERS, MAX_ROWS, Report
from gateway.report.heatmap import FEW, Label, heatmap
from penstock.client.documents import Row
from penstock.client.jobs import COMPLETED, FAILED
from penstock.v1 import analyzer_pb2

__all__ = ["cards", "clusters", "failures", "levels", "notice", "similar", "similarity", "table"]

MAX_CLUSTERS = 60
MAX_PAIRS = 25
MAX_GROUPS = 25
MAX_PASSAGES = 15
MAX_PASSAGE = 400
TERMS = 8
FIRST_MEMBERS = 5  # of a cluster with more than MAX_MEMBERS
SEEN_ROWS = 1_000

_LEVELS = (("HIGH", "h", "above 0.7"), ("MEDIUM", "m", "0.4–0.7"), ("LOW", "l", "below 0.4"))


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def level_class(row: Row) -> str:
    return (row.confidence_level or "u")[0].lower()


def notice(report: Report) -> str:
    job = report.job
    if job["status"] == COMPLETED:
        return ""
    if job["status"] == FAILED:
        why = escape(job["error_message"] or "")
        return f'<p class="notice bad">This job did not complete: {why}. What there is, is shown.</p>'
    return (
        f'<p class="notice">This job is still under way ({job["processed_documents"]:,} of '
        f"{job['total_documents']:,} documents). Reload for more.</p>"
    )


def _card(value: str, name: str, note: str) -> str:
    return f'<div class="card"><strong>{value}</strong><span>{name}</span><small>{note}</small></div>'


def cards(report: Report) -> str:
    done, failed = report.statuses[COMPLETED], report.statuses[FAILED]
    collection = report.collection
    total = report.job["total_documents"]
    made = [
        _card(
            f"{total:,}",
            "document" if total == 1 else "documents",
            f"{done:,} analysed" + (f", {failed:,} failed" if failed else ""),
        ),
        _card(
            number(report.average),
            "average probability",
            f"over {report.judged:,} document{'' if report.judged == 1 else 's'}"
            + (f", {done - report.judged:,} without" if done > report.judged else ""),
        ),
    ]
    if collection is not None:
        loose = collection.unclustered_count
        made.insert(
            1,
            _card(
                f"{len(collection.clusters):,}",
                "cluster" if len(collection.clusters) == 1 else "clusters",
                f"{loose:,} in none" if loose else "every document in one",
            ),
        )
    made.append(_card(f"{report.words:,}", "words", f"{report.words // done:,} a document" if done else "–"))
    return f'<div class="cards">{"".join(made)}</div>{levels(report)}'


def levels(report: Report) -> str:
    """One bar of all documents by level."""
    total = sum(report.levels.values())
    if not total:
        return ""
    bars, keys, at = [], [], 0.0
    for name, short, meaning in (*_LEVELS, ("UNCERTAIN", "u", "not judged")):
        count = report.levels[name]
        if not count:
            continue
        width = count * 1000 / total
        bars.append(f'<rect class="{short}" x="{at:.2f}" y="0" width="{max(width - 2, 1):.2f}" height="14"/>')
        keys.append(f'<li><i class="{short}"></i>{name.lower()} <b>{count:,}</b> <small>{meaning}</small></li>')
        at += width
    return (
        '<figure class="levels"><svg viewBox="0 0 1000 14" preserveAspectRatio="none" role="img" '
        f'aria-label="Documents by level">{"".join(bars)}</svg><ul class="key">{"".join(keys)}</ul></figure>'
    )


def _link(report: Report, seq: int, shown: set[int]) -> str:
    name = escape(report.names.get(seq + 1, f"document {seq + 1}"))
    return f'<a href="#doc-{seq + 1}"><bdi>{name}</bdi></a>' if seq + 1 in shown else f"<bdi>{name}</bdi>"


def clusters(report: Report, shown: set[int]) -> str:
    collection = report.collection
    if collection is None or not collection.clusters:
        return ""
    made = []
    for cluster in collection.clusters[:MAX_CLUSTERS]:
        average = cluster.avg_ai_probability if cluster.HasField("avg_ai_probability") else None
        terms = "".join(f"<li>{escape(term)}</li>" for term in cluster.terms[:TERMS])
        members = report.members.get(cluster.cluster_id, [])
        if cluster.document_count > MAX_MEMBERS:
            members = members[:FIRST_MEMBERS]
        names = "".join(f"<li>{_named(row, shown)}</li>" for row in members)
        more = cluster.document_count - len(members)
        made.append(
            f'<article class="cluster"><header><span class="num">{cluster.cluster_id}</span>'
            f"<b>{cluster.document_count:,}</b> document{'' if cluster.document_count == 1 else 's'}"
            f"<small>probability {number(average)} · similarity {cluster.avg_similarity:.2f}</small></header>"
            f'<ul class="terms">{terms}</ul><ul class="members">{names}</ul>'
            + (f"<small>and {more:,} more</small>" if more > 0 else "")
            + "</article>"
        )
    left = len(collection.clusters) - MAX_CLUSTERS
    note = f'<p class="note">{left:,} smaller clusters are not shown.</p>' if left > 0 else ""
    return (
        '<section id="clusters"><h2>Clusters</h2><p class="lead">Documents that are about the same thing, '
        f'largest first, named by the terms that set them apart.</p><div class="grid">{"".join(made)}</div>{note}'
        "</section>"
    )


def _named(row: Row, shown: set[int]) -> str:
    name = f"<bdi>{escape(row.filename)}</bdi>"
    return f'<a href="#doc-{row.id}">{name}</a>' if row.id in shown else name


def similarity(report: Report) -> str:
    collection = report.collection
    if collection is None:
        return ""
    matrix = collection.similarity_matrix
    rows = [row for row in report.rows if row.status == COMPLETED]
    if matrix.size > 1 and len(rows) >= matrix.size:
        names = [row.filename for row in rows[: matrix.size]]
        drawing = heatmap(matrix.values, matrix.size, _stretches(rows[: matrix.size]), names)
        lead = (
            "Each row and column is a document, in the order of the clusters; the stronger the colour, the more alike."
        )
    elif collection.cluster_matrix.size > 1:
        matrix = collection.cluster_matrix
        names = [f"cluster {one.cluster_id}" for one in collection.clusters] + ["in none"] * matrix.size
        labels = [Label(str(at), at, at + 1) for at in range(matrix.size)] if matrix.size <= FEW else []
        drawing = heatmap(matrix.values, matrix.size, labels, names)
        lead = (
            f"Each row and column is a cluster: above 1,000 documents the {len(rows):,} × {len(rows):,} matrix "
            "gives way to the mean similarity between clusters. The stronger the colour, the more alike."
        )
    else:
        return ""
    scale = '<div class="scale"><span>0</span><i></i><span>1</span><small>cosine similarity</small></div>'
    return f'<section id="similarity"><h2>Similarity</h2><p class="lead">{lead}</p>{drawing}{scale}</section>'


def _stretches(rows: Sequence[Row]) -> list[Label]:
    labels: list[Label] = []
    start = 0
    for at in range(1, len(rows) + 1):
        if at == len(rows) or rows[at].cluster_id != rows[start].cluster_id:
            cluster = rows[start].cluster_id
            labels.append(Label("–" if cluster is None else str(cluster), start, at))
            start = at
    return labels


def similar(report: Report, shown: set[int]) -> str:
    collection = report.collection
    if collection is None or not (collection.similar_pairs or collection.duplicate_groups):
        return ""
    parts = ['<section id="similar"><h2>Most similar</h2>']
    if collection.duplicate_groups:
        parts.append(
            "<h3>Near-duplicates</h3><p class='note'>Documents with much the same wording. The number is the share of "
            "word sequences that they have in common (Jaccard), not the cosine similarity.</p>"
            "<ul class='groups'>"
        )
        for group in collection.duplicate_groups[:MAX_GROUPS]:
            names = ", ".join(_link(report, seq, shown) for seq in group.seqs[:8])
            more = f" and {len(group.seqs) - 8:,} more" if len(group.seqs) > 8 else ""
            parts.append(f"<li>{names}{more} <small>at least {group.min_similarity:.2f} in common</small></li>")
        parts.append("</ul>" + _left(len(collection.duplicate_groups), MAX_GROUPS, "groups"))
    if collection.similar_pairs:
        parts.append(
            "<h3>Pairs</h3><p class='note'>The number is the cosine similarity, at most 1.</p>"
            "<div class='scroll'><table class='pairs'><thead><tr><th class='n'>Similarity<th>Document<th>Document"
            "</thead><tbody>"
        )
        parts += [
            f"<tr><td class='n'>{pair.similarity:.3f}<td>{_link(report, pair.seq, shown)}"
            f"<td>{_link(report, pair.other_seq, shown)}"
            for pair in collection.similar_pairs[:MAX_PAIRS]
        ]
        parts.append("</tbody></table></div>" + _left(len(collection.similar_pairs), MAX_PAIRS, "pairs"))
    if collection.passages:
        parts.append("<h3>Shared passages</h3>")
        parts += [_passage(report, one, shown) for one in collection.passages[:MAX_PASSAGES]]
        parts.append(_left(len(collection.passages), MAX_PASSAGES, "passages"))
    return "".join(parts) + "</section>"


def _passage(report: Report, one: analyzer_pb2.Passage, shown: set[int]) -> str:
    text = one.text if len(one.text) <= MAX_PASSAGE else one.text[:MAX_PASSAGE].rsplit(" ", 1)[0] + " …"
    return (
        f'<blockquote><p dir="auto">{escape(text)}</p><footer>{_link(report, one.seq, shown)} and '
        f"{_link(report, one.other_seq, shown)}</footer></blockquote>"
    )


def _left(total: int, shown: int, what: str) -> str:
    return f'<p class="note">{total - shown:,} more {what} are not shown.</p>' if total > shown else ""


def failures(report: Report) -> str:
    """Failed documents by reason."""
    count = report.statuses[FAILED]
    if not count:
        return ""
    by_reason: dict[str, list[Row]] = defaultdict(list)
    for row in report.failed:
        by_reason[row.error or "no reason given"].append(row)
    parts = [f'<section id="failed"><h2>Failed documents</h2><p class="lead">{count:,} could not be analysed.</p><dl>']
    for reason, rows in sorted(by_reason.items(), key=lambda item: -len(item[1]))[:40]:
        names = ", ".join(f"<bdi>{escape(row.filename)}</bdi>" for row in rows[:10])
        more = f" and {len(rows) - 10:,} more" if len(rows) > 10 else ""
        parts.append(f"<dt>{escape(reason)} <small>{len(rows):,}</small></dt><dd>{names}{more}</dd>")
    return "".join(parts) + "</dl></section>"


def table(report: Report, shown: set[int]) -> str:
    """All rows, those past the first thousand unseen until they are asked for: a browser lays those out fast."""
    total = sum(report.statuses.values())
    note = more = ""
    if total > len(report.rows):
        note = (
            f'<p class="note">The first {MAX_ROWS:,} of {total:,} documents, in the order of the clusters; '
            "the CSV export has all.</p>"
        )
    rows = [_row(row, shown) for row in report.rows]
    rest = "".join(rows[SEEN_ROWS:])
    if rest:
        more = (
            f'<p class="tools"><button type="button" id="all">Show all {len(rows):,} rows</button>'
            f'<span class="note">The first {SEEN_ROWS:,} are shown; filter and sort look at all.</span></p>'
        )
    heads = (("n", "#"), ("", "Document"), ("n", "Words"), ("n", "Probability"), ("", "Level"), ("n", "Cluster"))
    head = "".join(f'<th class="{kind}"><button type="button">{name}</button></th>' for kind, name in heads)
    return (
        '<section id="documents"><h2>Documents</h2><p class="tools"><input type="search" id="filter" '
        'placeholder="Filter by name, level or cluster" aria-label="Filter the documents"><span id="matches"></span>'
        f'</p>{note}<div class="scroll"><table id="table"><thead><tr>{head}</tr></thead><tbody>\n'
        f"{''.join(rows[:SEEN_ROWS])}</tbody><tbody hidden>\n{rest}</tbody></table></div>{more}</section>"
    )


def _row(row: Row, shown: set[int]) -> str:
    if row.status != COMPLETED:
        why = f" <small>{escape(row.error)}</small>" if row.error else ""
        name = f"<bdi>{escape(row.filename)}</bdi>"
        return f'<tr class="off"><td class="n">{row.id}<td>{name}{why}<td><td><td>{row.status.lower()}<td>\n'
    level = level_class(row)
    cluster = "" if row.cluster_id is None else str(row.cluster_id)
    share = "" if row.ai_probability is None else f'<i class="p{round(row.ai_probability * 20)} {level}"></i>'
    return (
        f'<tr><td class="n">{row.id}<td>{_named(row, shown)}<td class="n">{row.word_count:,}'
        f'<td class="n">{share}{number(row.ai_probability)}<td class="{level}">{(row.confidence_level or "").lower()}'
        f'<td class="n">{cluster}\n'
    )
