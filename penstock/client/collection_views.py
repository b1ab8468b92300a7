"""Collections as plain JSON objects, in the dialect of `penstock.client.views`. Matrices are lists of rows, or null."""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import TypedDict

from penstock.client.views import time_text
from penstock.levels import level_word
from penstock.v1 import analyzer_pb2

__all__ = ["CollectionDocumentView", "CollectionView", "collection_document_view", "collection_view", "matrix_rows"]


class ClusterView(TypedDict):
    cluster_id: int
    document_count: int
    avg_ai_probability: float | None
    avg_similarity: float
    terms: list[str]


class DuplicateGroupView(TypedDict):
    seqs: list[int]
    min_similarity: float


class SimilarPairView(TypedDict):
    seq: int
    other_seq: int
    similarity: float


class PassageView(TypedDict):
    seq: int
    other_seq: int
    containment: float
    text: str


class CollectionView(TypedDict):
    run_id: str
    document_count: int
    unclustered_count: int
    clusters: list[ClusterView]
    similarity_matrix: list[list[float]] | None
    cluster_matrix: list[list[float]] | None
    duplicate_groups: list[DuplicateGroupView]
    similar_pairs: list[SimilarPairView]
    passages: list[PassageView]
    embedding_provider: str
    embedding_model: str | None
    create_time: str | None


class SummaryView(TypedDict):
    """A document's; high, medium, low and uncertain count its segments."""

    word_count: int
    ai_probability: float | None
    confidence_level: str
    high: int
    medium: int
    low: int
    uncertain: int


class NeighbourView(TypedDict):
    seq: int
    filename: str
    similarity: float


class CollectionDocumentView(TypedDict):
    seq: int
    filename: str
    cluster_id: int | None
    summary: SummaryView
    neighbours: list[NeighbourView]


def matrix_rows(matrix: analyzer_pb2.Matrix) -> Iterator[list[float]]:
    """A matrix row by row, 3 decimals; no row of one that is not there."""
    for at in range(matrix.size):
        yield [round(value, 3) for value in matrix.values[at * matrix.size : (at + 1) * matrix.size]]


def _cluster_view(cluster: analyzer_pb2.Cluster) -> ClusterView:
    return {
        "cluster_id": cluster.cluster_id,
        "document_count": cluster.document_count,
        "avg_ai_probability": cluster.avg_ai_probability if cluster.HasField("avg_ai_probability") else None,
        "avg_similarity": cluster.avg_similarity,
        "terms": list(cluster.terms),
    }


def collection_view(collection: analyzer_pb2.Collection) -> CollectionView:
    return {
        "run_id": collection.run_id,
        "document_count": collection.document_count,
        "unclustered_count": collection.unclustered_count,
        "clusters": [_cluster_view(cluster) for cluster in collection.clusters],
        "similarity_matrix": list(matrix_rows(collection.similarity_matrix)) or None,
        "cluster_matrix": list(matrix_rows(collection.cluster_matrix)) or None,
        "duplicate_groups": [
            {"seqs": list(group.seqs), "min_similarity": group.min_similarity} for group in collection.duplicate_groups
        ],
        "similar_pairs": [
            {"seq": pair.seq, "other_seq": pair.other_seq, "similarity": pair.similarity}
            for pair in collection.similar_pairs
        ],
        "passages": [
            {"seq": one.seq, "other_seq": one.other_seq, "containment": one.containment, "text": one.text}
            for one in collection.passages
        ],
        "embedding_provider": collection.embedding_provider,
        "embedding_model": collection.embedding_model or None,
        "create_time": time_text(collection.create_time),
    }


def collection_document_view(document: analyzer_pb2.CollectionDocument) -> CollectionDocumentView:
    summary = document.summary
    return {
        "seq": document.seq,
        "filename": document.filename,
        "cluster_id": document.cluster_id if document.HasField("cluster_id") else None,
        "summary": {
            "word_count": summary.word_count,
            "ai_probability": summary.ai_probability if summary.HasField("ai_probability") else None,
            "confidence_level": level_word(summary.confidence_level).lower(),
            "high": summary.high,
            "medium": summary.medium,
            "low": summary.low,
            "uncertain": summary.uncertain,
        },
        "neighbours": [
            {"seq": near.seq, "filename": near.filename, "similarity": near.similarity} for near in document.neighbours
        ],
    }
