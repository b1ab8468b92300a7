"""Collections: the same for the same documents, whatever their order, number or emptiness."""

from __future__ import annotations

import random

import numpy as np
import pytest

from analyzer.domain.clusters import find_clusters
from analyzer.domain.collection import MAX_MATRIX_DOCUMENTS, CollectionAnalysis, CollectionBuilder
from analyzer.domain.neighbours import nearest
from analyzer.domain.sketch import Sketch
from analyzer.domain.vectors import unit_rows

SUBJECTS = {
    "sea": "harbour sailor anchor tide vessel captain mast rope wave storm deck cargo".split(),  # noqa: SIM905
    "bread": "flour yeast dough oven crust bakery loaf rye kneading salt sourdough grain".split(),  # noqa: SIM905
    "law": "court judge verdict appeal statute lawyer trial jury witness claim clause plaintiff".split(),  # noqa: SIM905
}


def sketch(terms: list[str], seed: int = 0) -> Sketch:
    names = sorted(set(terms))
    hashes = np.unique(np.random.default_rng(seed).integers(0, 2**32, 50, dtype=np.uint32))
    return Sketch(names, np.array([terms.count(name) for name in names], dtype=np.uint8), hashes, 0, len(terms))


def documents(count: int) -> list[tuple[int, Sketch, float | None]]:
    source = random.Random(3)
    found: list[tuple[int, Sketch, float | None]] = []
    for number in range(count):
        subject = list(SUBJECTS.values())[number % 3]
        found.append((number * 2, sketch(source.choices(subject, k=30), number), number % 10 / 10))
    return found


def analyzed(rows: list[tuple[int, Sketch, float | None]]) -> CollectionAnalysis:
    builder = CollectionBuilder()
    for row in rows:
        builder.add(*row)
    return builder.analyze()


def test_subjects_become_clusters_that_name_themselves() -> None:
    found = analyzed(documents(90))
    assert [cluster.document_count for cluster in found.clusters] == [30, 30, 30]
    for cluster in found.clusters:
        assert any(set(cluster.terms) <= set(subject) for subject in SUBJECTS.values())
        assert cluster.avg_similarity > 0.5
        assert cluster.avg_probability is not None
    labels = found.labels[found.order]
    assert (np.diff(labels) >= 0).all()


def test_the_order_of_arrival_leaves_no_trace() -> None:
    rows = documents(80)
    one, other = analyzed(rows), analyzed(random.Random(1).sample(rows, len(rows)))
    assert one.clusters == other.clusters
    assert (one.labels == other.labels).all()
    assert (one.order == other.order).all()
    assert one.matrix is not None
    assert other.matrix is not None
    assert one.matrix.tobytes() == other.matrix.tobytes()
    assert one.near.index.tobytes() == other.near.index.tobytes()
    assert one.duplicates == other.duplicates
    assert one.similar_pairs == other.similar_pairs


def test_one_document_is_a_collection() -> None:
    found = analyzed(documents(1))
    assert found.clusters == ()
    assert found.matrix is not None
    assert found.matrix.tolist() == [[1.0]]
    assert found.near.index.shape == (1, 0)
    assert found.similar_pairs == ()


def test_two_equal_documents_are_each_others_neighbours() -> None:
    rows = documents(1)
    found = analyzed([rows[0], (7, rows[0][1], None)])
    assert found.matrix is not None
    assert found.matrix.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert found.near.index.tolist() == [[1], [0]]
    assert [group.members for group in found.duplicates.groups] == [(0, 1)]
    assert len(found.clusters) == 1


def test_two_strangers_are_unclustered() -> None:
    found = analyzed([documents(2)[0], documents(2)[1]])
    assert found.clusters == ()
    assert found.labels.tolist() == [-1, -1]


@pytest.mark.parametrize("count", [2, 5, 11, 12, 13, 40])
def test_documents_without_terms_stand_alone(count: int) -> None:
    empty = Sketch([], np.zeros(0, np.uint8), np.zeros(0, np.uint32), 0, 0)
    found = analyzed([*documents(count), (1001, empty, None), (1003, empty, None)])
    assert found.labels[-2:].tolist() == [-1, -1]
    assert (found.near.index[-2:] == -1).all()
    assert not np.isin(found.near.index, [count, count + 1]).any()
    assert found.matrix is not None
    assert np.isfinite(found.matrix).all()
    assert (np.diag(found.matrix) == 1).all()


def test_a_collection_of_nothing_but_empty_documents_is_fine() -> None:
    empty = Sketch([], np.zeros(0, np.uint8), np.zeros(0, np.uint32), 0, 0)
    found = analyzed([(number, empty, None) for number in range(30)])
    assert found.clusters == ()
    assert (found.labels == -1).all()


def test_identical_documents_make_one_cluster() -> None:
    same = documents(1)[0][1]
    found = analyzed([(number, same, 0.5) for number in range(40)])
    assert [cluster.document_count for cluster in found.clusters] == [40]
    assert len(found.duplicates.groups[0].members) == 40


def test_what_resembles_nothing_is_left_out_of_clusters() -> None:
    rows = documents(60)
    rows.append((999, sketch(["zeppelin", "quartz", "ombudsman", "fjord"] * 4, 999), None))
    assert analyzed(rows).labels[-1] == -1


def test_large_collections_get_a_matrix_of_clusters_instead() -> None:
    found = analyzed(documents(MAX_MATRIX_DOCUMENTS + 1))
    assert found.matrix is None
    assert found.cluster_matrix is not None
    assert found.cluster_matrix.shape == (len(found.clusters),) * 2


def test_a_providers_vectors_are_used_as_they_belong() -> None:
    rows = documents(3)
    builder = CollectionBuilder()
    for number in (2, 0, 1):
        builder.add(*rows[number])
        builder.add_vectors(np.array([[float(number == 1), 1.0]], dtype=np.float32))
    found = builder.analyze(model="m")
    assert found.model == "m"
    assert found.near.index[0, 0] == 2
    assert found.near.similarity[0, 0] == pytest.approx(1.0)
    assert found.near.similarity[1, 0] == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("count", [2, 9, 64, 65, 700])
def test_neighbours_are_exact(count: int) -> None:
    vectors = unit_rows(np.random.default_rng(count).standard_normal((count, 8)).astype(np.float32))
    near = nearest(vectors, 5)
    cosine = vectors @ vectors.T
    np.fill_diagonal(cosine, -2)
    assert np.allclose(near.similarity, -np.sort(-cosine, axis=1)[:, : min(5, count - 1)], atol=1e-6)
    assert np.allclose(np.take_along_axis(cosine, near.index.astype(np.int64), axis=1), near.similarity, atol=1e-6)


def test_vectors_that_hold_no_number_are_zero() -> None:
    rows = unit_rows(np.array([[np.nan, np.inf], [0, 0], [3, 4]], dtype=np.float32))
    assert rows.tolist() == [[0, 0], [0, 0], [pytest.approx(0.6), pytest.approx(0.8)]]
    assert find_clusters(nearest(rows, 2)).tolist() == [-1, -1, -1]
