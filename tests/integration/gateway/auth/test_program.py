"""The program itself with auth = tokens: any address, HTTPS, wrong settings, a database that comes late."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.__main__ import opened
from penstock.client.gateway_calls import GatewayCalls
from penstock.runtime.errors import InvalidInput, Unauthenticated, Unavailable
from penstock.runtime.settings import load
from tests.integration.gateway.auth.serving import ADMIN
from tests.integration.gateway.test_start import gateway
from tests.servers.postgres import PostgresServer
from tests.servers.stack import until


def settings(folder: Path, database_url: str, **more: str) -> dict[str, str]:
    token = folder / "admin"
    token.write_text(ADMIN)
    own = {"AUTH": "tokens", "DATABASE_URL": database_url, "ADMIN_TOKEN_FILE": str(token), **more}
    return {f"PENSTOCK_GATEWAY__{name}": value for name, value in own.items()}


@contextlib.contextmanager
def serving(folder: Path, database_url: str, **more: str) -> Iterator[int]:
    """Its port."""
    process = gateway(folder, **settings(folder, database_url, **more))
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if '"serving"' in line:
                yield int(json.loads(line)["port"])
                break
        else:
            raise AssertionError(f"it ended with {process.wait(5)}")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)
        assert process.returncode == 0


def test_it_serves_every_address_and_asks_who_it_is(tmp_path: Path, database_url: str) -> None:
    with (
        serving(tmp_path, database_url, HOST="0.0.0.0") as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
    ):
        headers = {"host": "penstock.example"}
        assert http.get("/healthz", headers=headers).status_code == 200
        assert http.get("/api/v1/endpoints", headers=headers).status_code == 401
        headers["authorization"] = f"Bearer {ADMIN}"
        assert http.get("/api/v1/endpoints", headers=headers).status_code == 200
        told = {"name": "ci", "role": "viewer"}

        def made() -> str:
            answer = http.post("/api/v1/tokens", json=told, headers=headers)
            return str(answer.json()["secret"]) if answer.status_code == 200 else ""

        secret = until("the database is open", made)
        assert http.get("/openapi.json", headers={"authorization": f"Bearer {secret}"}).status_code == 200
    with serving(tmp_path, database_url) as port:  # what was kept is there after a restart
        calls = GatewayCalls(f"http://127.0.0.1:{port}", secret)

        def who() -> str:
            try:
                return str(calls.ask("GET", "/api/v1/session")["actor"])
            except Unavailable:
                return ""

        assert until("the database is open again", who) == "ci"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"DATABASE_URL": ""}, "PENSTOCK_GATEWAY__DATABASE_URL"),
        ({"DATABASE_URL": "mysql://x"}, "gateway.database_url"),
        ({"ADMIN_TOKEN_FILE": "/nowhere"}, "gateway.admin_token_file /nowhere: No such file"),
        ({"ADMIN_TOKEN_FILE": "SHORT"}, "at least 32 characters"),
        ({"HOST": "everywhere"}, "gateway.host"),
        ({"AUTH": "password"}, "gateway.auth"),
        ({"TLS_FOLDER": "/nowhere"}, "tls.crt: No such file"),
        ({"TRUSTED_PROXIES": "10.0.0.0/99"}, "gateway.trusted_proxies"),
        ({"AUTH": "none", "HOST": "0.0.0.0"}, "unless gateway.auth is tokens"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, sqlite_url: str, more: dict[str, str], words: str) -> None:
    (tmp_path / "short").write_text("secret")
    more = {name: str(tmp_path / "short") if value == "SHORT" else value for name, value in more.items()}
    with pytest.raises(InvalidInput, match=re.escape(words)):
        opened(load(settings(tmp_path, sqlite_url, PORT="0", **more)))


def test_wrong_settings_end_the_program_in_a_line(tmp_path: Path, sqlite_url: str) -> None:
    process = gateway(tmp_path, **settings(tmp_path, sqlite_url, ADMIN_TOKEN_FILE=str(tmp_path / "none")))
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "gateway.admin_token_file" in errors
    assert len(errors.splitlines()) == 1


def certificate(folder: Path, name: str, *, with_key: bool = True) -> None:
    """Of itself, for 127.0.0.1."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    (folder / "tls.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    if with_key:
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "tls.key").write_bytes(private)


def test_https_takes_new_certificates_without_a_restart(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "tls"
    certificate(folder, "first")
    with serving(tmp_path, sqlite_url, TLS_FOLDER=str(folder)) as port:
        url = f"https://127.0.0.1:{port}"

        def shown() -> bytes:
            return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port))).hex().encode()

        first = shown()
        with pytest.raises(Unavailable, match="SSL_CERT_FILE"):
            GatewayCalls(url, ADMIN).ask("GET", "/api/v1/endpoints")
        monkeypatch.setenv("SSL_CERT_FILE", str(folder / "tls.crt"))
        assert GatewayCalls(url, ADMIN).ask("GET", "/api/v1/endpoints")["http"].startswith("https://")

        def signed_in() -> str:
            answer = httpx.post(f"{url}/api/v1/session", json={"token": ADMIN}, verify=False, trust_env=False)
            return str(answer.headers.get("set-cookie", ""))

        assert "Secure" in until("the database is open", signed_in)
        certificate(folder, "half", with_key=False)  # a certificate without its key is not taken
        certificate(folder, "second")
        until("the new certificate is shown", lambda: shown() != first, seconds=30)
        assert GatewayCalls(url, ADMIN).ask("GET", "/api/v1/endpoints")


def test_a_key_of_another_certificate_is_told(tmp_path: Path, sqlite_url: str) -> None:
    folder = tmp_path / "tls"
    certificate(folder, "one")
    certificate(folder, "other", with_key=False)
    process = gateway(tmp_path, **settings(tmp_path, sqlite_url, TLS_FOLDER=str(folder)))
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, "does not belong" in errors) == (2, True), errors


def test_a_database_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        url = server.create_database()
        server.kill()
        with serving(tmp_path, url) as port:
            calls = GatewayCalls(f"http://127.0.0.1:{port}", ADMIN)
            assert calls.ask("GET", "/api/v1/session")["kind"] == "file"  # the file needs no database
            with pytest.raises(Unavailable) as told:
                calls.ask("GET", "/api/v1/tokens")
            assert told.value.code == "sql_unavailable"
            checks = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).json()["checks"]
            assert "can't use its SQL database" in checks["gateway"]
            server.start()

            def there() -> bool:
                with contextlib.suppress(Unavailable):
                    return bool(calls.ask("GET", "/api/v1/tokens")["tokens"] == [])
                return False

            until("the gateway has opened its database", there, seconds=60)
    finally:
        server.stop()


def test_a_redirect_gets_no_token(tmp_path: Path) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    seen: list[str] = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/stolen")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        with pytest.raises((Unavailable, Unauthenticated)):
            GatewayCalls(f"http://127.0.0.1:{server.server_address[1]}", ADMIN).ask("GET", "/api/v1/endpoints")
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
    assert seen == ["/api/v1/endpoints"]
