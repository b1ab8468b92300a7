"""Providers of embeddings: a server that speaks Ollama's or OpenAI's protocol, or a local sentence-transformers model.

The offline default (LSA) is no provider: it is fitted in the collection itself (domain/vectors.py). Texts are cut to
MAX_CHARS and sent in batches; what is safe to repeat (no connection, 429, 5xx) is tried again a few times, then it is
Unavailable with the setting to look at. Which provider and model were used is recorded with the collection.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.settings import AnalyzerSection

__all__ = ["Embedder", "HttpEmbedder", "SentenceTransformers", "embedder_of"]

MAX_CHARS = 8_000
"""About 2,000 tokens: what common embedding models read of a text."""
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 5.0
OLLAMA = ("http://127.0.0.1:11434", "nomic-embed-text", "/api/embed")
OPENAI = ("https://api.openai.com/v1", "text-embedding-3-small", "/embeddings")
SENTENCE_MODEL = "all-MiniLM-L6-v2"

Floats = NDArray[np.float32]


class Embedder(Protocol):
    provider: str
    model: str

    async def embed(self, texts: Sequence[str]) -> Floats:
        """One row per text. Raises Unavailable, or InvalidInput where the provider refuses the request for good."""

    async def close(self) -> None: ...


def embedder_of(section: AnalyzerSection) -> Embedder | None:
    """The provider that the settings name; None is the offline embedding. Raises InvalidInput for settings that can't
    work."""
    batch, timeout = section.embedding_batch, section.embedding_timeout_seconds
    if section.embedding_provider == "ollama":
        url, model, path = OLLAMA
        return HttpEmbedder(
            "ollama", section.embedding_model or model, (section.embedding_url or url).rstrip("/") + path,
            key=_key(section.embedding_api_key_file), batch=batch, timeout_seconds=timeout,
        )  # fmt: skip
    if section.embedding_provider == "openai":
        url, model, path = OPENAI
        return HttpEmbedder(
            "openai", section.embedding_model or model, (section.embedding_url or url).rstrip("/") + path,
            key=_key(section.embedding_api_key_file), batch=batch, timeout_seconds=timeout,
        )  # fmt: skip
    if section.embedding_provider == "sentence-transformers":
        if importlib.util.find_spec("sentence_transformers") is None:
            raise InvalidInput(
                "analyzer.embedding_provider is sentence-transformers, which is not installed: install Penstock with "
                "its extra `sentence-transformers`, or choose offline, ollama or openai",
                code="settings",
            )
        return SentenceTransformers(section.embedding_model or SENTENCE_MODEL, batch=batch)
    return None


def _key(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text().strip()
    except OSError as error:
        raise InvalidInput(f"analyzer.embedding_api_key_file {file}: {error.strerror}", code="settings") from error


class _Passing(Exception):
    """A failure that may pass: worth another attempt."""


class HttpEmbedder:
    """POST {model, input: [texts]}; Ollama answers {embeddings: [[…]]}, OpenAI {data: [{index, embedding: […]}]}."""

    def __init__(
        self, provider: str, model: str, url: str, *, key: str | None, batch: int, timeout_seconds: float
    ) -> None:
        import httpx

        self.provider = provider
        self.model = model
        self._url = url
        self._batch = batch
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(timeout=timeout_seconds, headers=headers)

    async def embed(self, texts: Sequence[str]) -> Floats:
        rows: list[list[float]] = []
        for first in range(0, len(texts), self._batch):
            # Neither protocol takes an empty text.
            rows += await self._request([text[:MAX_CHARS] or " " for text in texts[first : first + self._batch]])
        try:
            found = np.array(rows, dtype=np.float32)
        except ValueError:
            raise self._refused("vectors of different length") from None
        if found.ndim != 2 or found.shape[1] == 0:
            raise self._refused("empty vectors")
        return found

    async def close(self) -> None:
        await self._client.aclose()

    async def _request(self, texts: list[str]) -> list[list[float]]:
        import httpx
        import stamina

        try:
            async for attempt in stamina.retry_context(
                on=_Passing, attempts=ATTEMPTS, wait_initial=FIRST_WAIT_SECONDS, wait_max=LONGEST_WAIT_SECONDS,
                timeout=None,
            ):  # fmt: skip
                with attempt:
                    try:
                        answer = await self._client.post(self._url, json={"model": self.model, "input": texts})
                    except httpx.TransportError as error:
                        raise _Passing(f"{type(error).__name__} {error}".strip()) from error
                    except httpx.InvalidURL as error:
                        raise self._refused(str(error)) from error
                    if answer.status_code == 429 or answer.status_code >= 500:
                        raise _Passing(f"HTTP {answer.status_code}: {answer.text[:200]}")
        except _Passing as error:
            raise Unavailable(
                f"the embedding provider {self.provider} at {self._url} does not answer ({error}): is it running, and "
                "is analyzer.embedding_url (PENSTOCK_ANALYZER__EMBEDDING_URL) right?",
                code="embedding_unavailable",
            ) from error
        if answer.status_code != 200:
            raise self._refused(f"HTTP {answer.status_code}: {answer.text[:200]}")
        try:
            vectors = self._vectors(answer.json())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._refused(f"an answer that is not of its protocol ({error!r})") from error
        if len(vectors) != len(texts):
            raise self._refused(f"{len(vectors)} vectors for {len(texts)} texts")
        return vectors

    def _vectors(self, body: Any) -> list[list[float]]:
        if self.provider == "ollama":
            return list(body["embeddings"])
        return [row["embedding"] for row in sorted(body["data"], key=lambda row: int(row["index"]))]

    def _refused(self, why: str) -> InvalidInput:
        return InvalidInput(
            f"the embedding provider {self.provider} at {self._url} answered: {why}; see analyzer.embedding_model "
            f"({self.model}), analyzer.embedding_url and analyzer.embedding_api_key_file",
            code="embedding_refused",
        )


class SentenceTransformers:
    """A local model, loaded on first use; needs the extra `sentence-transformers`."""

    provider = "sentence-transformers"

    def __init__(self, model: str, *, batch: int) -> None:
        self.model = model
        self._batch = batch
        self._loaded: Any = None
        self._loading = threading.Lock()

    async def embed(self, texts: Sequence[str]) -> Floats:
        return await asyncio.to_thread(self._embed, [text[:MAX_CHARS] for text in texts])

    async def close(self) -> None:
        self._loaded = None

    def _embed(self, texts: list[str]) -> Floats:
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
        found: Floats = np.asarray(
            self._loaded.encode(texts, batch_size=self._batch, show_progress_bar=False), dtype=np.float32
        )
        return found

    def _load(self) -> Any:
        try:
            return importlib.import_module("sentence_transformers").SentenceTransformer(self.model)
        except Exception as error:
            raise Unavailable(
                f"the model {self.model!r} (analyzer.embedding_model) can't be loaded: {error}",
                code="embedding_unavailable",
            ) from error
