"""Providers of embeddings, against a server that speaks their protocols."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from analyzer import embeddings
from analyzer.embeddings import Embedder, embedder_of
from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.settings import AnalyzerSection
from tests.integration.analyzer.conftest import Analyzer
from tests.integration.analyzer.embedding_server import EmbeddingServer

TEXTS = ["harbour harbour", "flour", "court flour"]
VECTORS = [[2, 0, 0], [0, 1, 0], [0, 1, 1]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(embeddings, "LONGEST_WAIT_SECONDS", 0.01)


def made(name: str, server: EmbeddingServer, **more: object) -> Embedder:
    url = server.url + ("/v1/" if name == "openai" else "")
    embedder = embedder_of(AnalyzerSection.model_validate({"embedding_provider": name, "embedding_url": url, **more}))
    assert embedder is not None
    return embedder


@pytest.mark.parametrize(("name", "path"), [("ollama", "/api/embed"), ("openai", "/v1/embeddings")])
async def test_texts_go_in_batches_and_come_back_in_order(
    provider: EmbeddingServer, tmp_path: Path, name: str, path: str
) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    embedder = made(name, provider, embedding_batch=2, embedding_model="m", embedding_api_key_file=key)
    found = await embedder.embed([*TEXTS, ""])
    assert found.dtype == np.float32
    assert found.tolist() == [*VECTORS, [0, 0, 0]]
    assert [(at, sign, sent["model"], len(sent["input"])) for at, sign, sent in provider.requests] == [
        (path, "Bearer secret", "m", 2)
    ] * 2
    assert (embedder.provider, embedder.model) == (name, "m")
    await embedder.close()


async def test_what_may_pass_is_tried_again(provider: EmbeddingServer) -> None:
    provider.failures = [503, 429]
    embedder = made("ollama", provider)
    assert (await embedder.embed(TEXTS)).tolist() == VECTORS
    assert len(provider.requests) == 3
    await embedder.close()


async def test_a_refusal_is_not_repeated_and_names_the_settings(provider: EmbeddingServer) -> None:
    provider.failures = [401]
    embedder = made("openai", provider)
    with pytest.raises(InvalidInput, match=r"HTTP 401.*embedding_api_key_file"):
        await embedder.embed(TEXTS)
    assert len(provider.requests) == 1
    await embedder.close()


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b"no json", b'{"embeddings": [[1]]}', b'{"embeddings": [[1],[1,2],[3]]}']
)
async def test_answers_of_another_form_are_told(provider: EmbeddingServer, body: bytes) -> None:
    provider.body = body
    embedder = made("ollama", provider)
    with pytest.raises(InvalidInput, match="answered"):
        await embedder.embed(TEXTS)
    await embedder.close()


async def test_an_unreachable_provider_names_the_setting(provider: EmbeddingServer) -> None:
    embedder = made("ollama", provider)
    provider.close()
    with pytest.raises(Unavailable, match="PENSTOCK_ANALYZER__EMBEDDING_URL"):
        await embedder.embed(TEXTS)
    await embedder.close()
    provider.__post_init__()  # the fixture closes it once more


def test_a_missing_local_library_is_a_wrong_setting() -> None:
    if importlib.util.find_spec("sentence_transformers") is not None:
        pytest.skip("sentence-transformers is installed here")
    with pytest.raises(InvalidInput, match="extra `sentence-transformers`"):
        embedder_of(AnalyzerSection(embedding_provider="sentence-transformers"))


def test_a_missing_key_file_is_a_wrong_setting() -> None:
    with pytest.raises(InvalidInput, match="embedding_api_key_file"):
        embedder_of(AnalyzerSection(embedding_provider="openai", embedding_api_key_file=Path("/nowhere/key")))


def test_offline_is_no_provider() -> None:
    assert embedder_of(AnalyzerSection()) is None


class TestInACollection:
    @pytest.fixture
    def section(self, provider: EmbeddingServer) -> dict[str, object]:
        return {
            "embedding_provider": "ollama",
            "embedding_url": provider.url,
            "embedding_model": "counting",
            "embedding_batch": 4,
        }

    @pytest.fixture
    def database_url(self, sqlite_url: str) -> str:
        return sqlite_url

    async def test_its_vectors_decide_who_is_near(self, analyzer: Analyzer, provider: EmbeddingServer) -> None:
        words = ["harbour", "flour", "court"]
        documents = await analyzer.outcomes([f"{words[number % 3]} unlike{number}" for number in range(12)])
        await analyzer.collect("run-1", documents[::-1], part=5)
        kept = await analyzer.collection("run-1")
        assert (kept.embedding_provider, kept.embedding_model) == ("ollama", "counting")
        assert [cluster.document_count for cluster in kept.clusters] == [4, 4, 4]
        for document in (await analyzer.listed("run-1")).documents:
            near = [each.seq for each in document.neighbours if each.similarity > 0.9]
            assert sorted([*near, document.seq]) == list(range(document.seq % 3, 12, 3))
        assert sum(len(sent["input"]) for _, _, sent in provider.requests) == 12

    async def test_nothing_is_kept_while_it_is_away(self, analyzer: Analyzer, provider: EmbeddingServer) -> None:
        documents = await analyzer.outcomes(["harbour", "flour"])
        provider.failures = [503] * 10
        with pytest.raises(Unavailable, match="does not answer"):
            await analyzer.collect("run-1", documents)
