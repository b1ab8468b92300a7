"""AnalyzeCollection and what is kept of it, on SQLite and on PostgreSQL."""

from __future__ import annotations

import random

import pytest

from analyzer.store import pack_neighbours, unpack_neighbours
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import analyzer_pb2, common_pb2
from tests.integration.analyzer.conftest import Analyzer, Document

SUBJECTS = (
    "harbour sailor anchor tide vessel captain mast rope wave storm deck cargo",
    "flour yeast dough oven crust bakery loaf rye kneading salt sourdough grain",
    "court judge verdict appeal statute lawyer trial jury witness claim clause plaintiff",
)
STORY = "one morning the old keeper counted every lamp along the quiet northern pier before breakfast and wrote it down"


def texts(count: int) -> list[str]:
    source = random.Random(5)
    return [" ".join(source.choices(SUBJECTS[number % 3].split(), k=60)) for number in range(count)]


async def test_a_collection_is_kept_and_listed_in_cluster_order(analyzer: Analyzer) -> None:
    steps = await analyzer.collect("run-1", await analyzer.outcomes(texts(45)))
    assert [step.done for step in steps] == [False] * (len(steps) - 1) + [True]
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    kept = await analyzer.collection("run-1")
    assert kept.document_count == 45
    assert [cluster.document_count for cluster in kept.clusters] == [15, 15, 15]
    assert kept.similarity_matrix.size == 45
    assert len(kept.similarity_matrix.values) == 45 * 45
    assert (kept.embedding_provider, kept.embedding_model) == ("offline", "lsa-9")
    assert kept.unclustered_count == 0
    documents = (await analyzer.listed("run-1")).documents
    assert sorted(each.seq for each in documents) == list(range(45))
    assert [each.cluster_id for each in documents] == [0] * 15 + [1] * 15 + [2] * 15
    first = documents[0]
    assert len(first.neighbours) == 10
    assert all(near.filename == f"{near.seq}.txt" for near in first.neighbours)
    assert all(near.seq % 3 == first.seq % 3 for near in first.neighbours)
    assert kept.similarity_matrix.values[1] == pytest.approx(
        next((n.similarity for n in first.neighbours if n.seq == documents[1].seq), kept.similarity_matrix.values[1]),
        abs=0.001,
    )


async def test_pages_follow_each_other(analyzer: Analyzer) -> None:
    await analyzer.collect("run-1", await analyzer.outcomes(texts(10)))
    whole = (await analyzer.listed("run-1")).documents
    seen: list[analyzer_pb2.CollectionDocument] = []
    token = ""
    while True:
        page = await analyzer.listed("run-1", page_size=4, page_token=token)
        seen += page.documents
        token = page.next_page_token
        if not token:
            break
    assert seen == list(whole)
    chosen = (await analyzer.listed("run-1", seqs=[3, 8, 99])).documents
    assert sorted(each.seq for each in chosen) == [3, 8]
    for token in ("x", "\u00b2", str(2**31), "9" * 25):
        with pytest.raises(InvalidInput, match="page_token"):
            await analyzer.listed("run-1", page_token=token)
    assert not (await analyzer.listed("run-1", page_token=str(2**31 - 1))).documents


async def test_a_second_execution_changes_nothing(analyzer: Analyzer) -> None:
    documents = await analyzer.outcomes(texts(20))
    await analyzer.collect("run-1", documents)
    before = await analyzer.collection("run-1"), (await analyzer.listed("run-1")).documents
    await analyzer.collect("run-1", documents[::-1] + documents[:3], part=4)
    assert (await analyzer.collection("run-1"), (await analyzer.listed("run-1")).documents) == before


async def test_a_call_that_breaks_off_leaves_what_was_kept(analyzer: Analyzer) -> None:
    documents = await analyzer.outcomes(texts(6))
    await analyzer.collect("run-1", documents)
    before = await analyzer.collection("run-1")
    gone = Document(seq=9, filename="9.txt", sketch_blob=common_pb2.BlobRef(sha256="0" * 64))
    with pytest.raises(NotFound, match="no blob"):
        await analyzer.collect("run-1", [*documents, gone])
    with pytest.raises(InvalidInput, match=r"9\.txt.*no usable sketch"):
        await analyzer.collect("run-1", [*documents, Document(seq=9, filename="9.txt", sketch=b"foreign")])
    assert await analyzer.collection("run-1") == before


async def test_duplicates_and_passages_are_told(analyzer: Analyzer) -> None:
    some = texts(4)
    backwards = " ".join(reversed(some[1].split()))
    await analyzer.collect("run-1", await analyzer.outcomes([*some, some[0], f"{backwards} {STORY}", f"{STORY}."]))
    kept = await analyzer.collection("run-1")
    assert [list(group.seqs) for group in kept.duplicate_groups] == [[0, 4]]
    assert any({each.seq, each.other_seq} == {5, 6} and each.text == STORY for each in kept.passages)
    assert {kept.similar_pairs[0].seq, kept.similar_pairs[0].other_seq} == {0, 4}


@pytest.mark.parametrize("count", [1, 2])
async def test_small_collections_are_collections(analyzer: Analyzer, count: int) -> None:
    await analyzer.collect("run-1", await analyzer.outcomes(texts(count)))
    kept = await analyzer.collection("run-1")
    assert kept.similarity_matrix.size == count
    assert kept.similarity_matrix.values[0] == 1.0
    assert not kept.clusters
    assert kept.unclustered_count == count
    assert not (await analyzer.listed("run-1")).documents[0].HasField("cluster_id")


async def test_runs_do_not_mix(analyzer: Analyzer) -> None:
    some = await analyzer.outcomes(texts(4))
    await analyzer.collect("run-1", some)
    await analyzer.collect("run-2", some[:2])
    assert (await analyzer.collection("run-1")).document_count == 4
    assert len((await analyzer.listed("run-2")).documents) == 2


async def test_what_is_not_there_is_not_found(analyzer: Analyzer) -> None:
    with pytest.raises(NotFound, match="run 'run-9' has no collection"):
        await analyzer.collection("run-9")
    with pytest.raises(NotFound, match="run 'run-9' has no collection"):
        await analyzer.listed("run-9")


async def test_streams_that_are_not_collections_are_refused(analyzer: Analyzer) -> None:
    with pytest.raises(InvalidInput, match="begins with a header"):
        await analyzer.collect("", [])
    with pytest.raises(InvalidInput, match="at least one"):
        await analyzer.collect("run-1", [])
    with pytest.raises(NotFound):
        await analyzer.collection("run-1")


async def test_sketches_may_come_inline(analyzer: Analyzer) -> None:
    answers = await analyzer.documents(texts(3))
    inline = [Document(seq=each.seq, filename="x", summary=each.summary, sketch=each.sketch) for each in answers]
    await analyzer.collect("run-1", inline)
    assert (await analyzer.collection("run-1")).document_count == 3


def test_packed_neighbours_keep_large_seqs() -> None:
    assert unpack_neighbours(pack_neighbours([(2**40, 0.5), (0, -1.0)])) == [(2**40, 0.5), (0, -1.0)]
