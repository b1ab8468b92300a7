"""A real OIDC issuer: its discovery document and its keys over HTTP on loopback, and tokens that it signs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

__all__ = ["AUDIENCE", "TestIssuer"]

AUDIENCE = "penstock"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class TestIssuer:
    """`asked` counts what was asked for, by path; `calls_itself` replaces its name; `away` makes it answer 500."""

    __test__ = False

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.public: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.away = False
        self.calls_itself = ""
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                documents = {
                    "/.well-known/openid-configuration": {
                        "issuer": issuer.calls_itself or issuer.url,
                        "jwks_uri": f"{issuer.url}/keys",
                    },
                    "/keys": {"keys": issuer.public},
                }
                body = json.dumps(documents.get(self.path, {})).encode()
                self.send_response(500 if issuer.away else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def add_key(self, key_id: str, algorithm: str = "ES256", *, bits: int = 2048, **more: object) -> None:
        key: Key
        if algorithm == "RS256":
            key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
            public = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        self.keys[key_id] = key
        self.public.append({**public, "kid": key_id, "use": "sig", **more})

    def drop_key(self, key_id: str) -> None:
        del self.keys[key_id]
        self.public = [one for one in self.public if one["kid"] != key_id]

    def claims(self, **more: object) -> dict[str, object]:
        """A person `ada` of the group `staff`; None leaves a claim out."""
        now = int(time.time())
        claims = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "exp": now + 600, "iat": now, "roles": ["staff"]}
        return {name: value for name, value in {**claims, **more}.items() if value is not None}

    def token(self, key_id: str, algorithm: str = "ES256", **claims: object) -> str:
        return self.signed(key_id, claims, algorithm)

    def signed(self, key_id: str, claims: Mapping[str, object], algorithm: str = "ES256") -> str:
        return jwt.encode(self.claims(**claims), self.keys[key_id], algorithm=algorithm, headers={"kid": key_id})

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
