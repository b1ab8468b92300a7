"""A small server that speaks Ollama's and OpenAI's embedding protocols, over real HTTP, in a thread."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["EmbeddingServer"]

WORDS = ("harbour", "flour", "court")


@dataclass
class EmbeddingServer:
    """Vectors count three words. `failures` are HTTP codes answered first, one a request; `requests` what came."""

    failures: list[int] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    body: bytes | None = None
    """Answered instead of vectors."""

    def __post_init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.requests.append((self.path, self.headers.get("authorization", ""), sent))
                code, answer = outer._answer(self.path, sent)
                self.send_response(code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, path: str, sent: dict[str, Any]) -> tuple[int, bytes]:
        if self.failures:
            return self.failures.pop(0), b'{"error": "as told"}'
        if self.body is not None:
            return 200, self.body
        vectors = [[float(text.count(word)) for word in WORDS] for text in sent["input"]]
        if path == "/api/embed":
            return 200, json.dumps({"model": sent["model"], "embeddings": vectors}).encode()
        if path == "/v1/embeddings":
            rows = [{"object": "embedding", "index": at, "embedding": row} for at, row in enumerate(vectors)]
            return 200, json.dumps({"object": "list", "data": rows[::-1], "model": sent["model"]}).encode()
        return 404, b'{"error": "no such path"}'
