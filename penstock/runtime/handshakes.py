"""Why two programs can't agree on mutual TLS, in words: asked by a handshake of our own, after gRPC's has failed.

gRPC says `Socket closed` to a caller whose certificate is refused, and little more in other cases. Here the same
handshake is done once more with nothing checked, so that what the other side shows can be read, and its answer to
what we show. It changes nothing, takes at most a few seconds in a thread, and is not done again within 2 s.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
import time

import grpc
from cryptography import x509

from penstock.runtime import certificates
from penstock.runtime.tls import Identity

__all__ = ["Explaining", "explain"]

STEP_SECONDS = 2.0
AGAIN_SECONDS = 2.0

_SIGNS = ("handshake", "verification", "socket closed", "connection reset", "broken pipe", "endpoint")
"""In gRPC's words where a connection was made and the two did not agree."""

_REFUSALS = {
    "UNKNOWN_CA": "it does not trust who signed it",
    "CERTIFICATE_EXPIRED": "it has ended",
    "CERTIFICATE_REQUIRED": "it got none",
    "BAD_CERTIFICATE": "it can't read it",
}


class Explaining(grpc.aio.UnaryUnaryClientInterceptor):
    """Puts the explanation in place of gRPC's words, where there is one."""

    def __init__(self, address: str, identity: Identity, service: str) -> None:
        self._address = address
        self._identity = identity
        self._service = service
        self._told = ""
        self._until = 0.0

    async def intercept_unary_unary(self, continuation, client_call_details, request):  # type: ignore[no-untyped-def]
        call = await continuation(client_call_details, request)
        try:
            code = await call.code()
            if code is not grpc.StatusCode.UNAVAILABLE:
                return call
            details = await call.details() or ""
            if why := await self._explained(details):
                raise grpc.aio.AioRpcError(
                    code, await call.initial_metadata(), await call.trailing_metadata(), why, details
                )
        except asyncio.CancelledError:
            call.cancel()
            raise
        return call

    async def _explained(self, details: str) -> str:
        if not any(sign in details.lower() for sign in _SIGNS):
            return ""
        if time.monotonic() >= self._until:
            self._told = await asyncio.to_thread(explain, self._address, self._identity, self._service)
            self._until = time.monotonic() + AGAIN_SECONDS
        return self._told


def explain(address: str, identity: Identity, service: str) -> str:
    """What is wrong between us and the service, or "" when nothing is to be seen."""
    held = identity.look()
    now = datetime.datetime.now(datetime.UTC)
    subject = f"the {service} at {address} can't be called over mutual TLS"
    if why := held.ended(now):
        return f"{subject}: {why}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        context.load_cert_chain(held.folder / certificates.CERTIFICATE, held.folder / certificates.KEY)
    except (OSError, ssl.SSLError):
        return ""
    name = f"penstock-{service}"
    host, _, port = address.rpartition(":")
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), STEP_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=name) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
            why = _wrong(x509.load_der_x509_certificate(shown), held, name, now) if shown else ""
            why = why or _refused(secured, held)
    except ssl.SSLError as error:
        if "WRONG_VERSION_NUMBER" in str(error) or "PACKET_LENGTH" in str(error):
            why = "it answers without TLS: tls.folder is set here and not there"
        else:
            why = _reason(error, held)
    except (OSError, ValueError):
        return ""
    return f"{subject}: {why}" if why else ""


def _wrong(shown: x509.Certificate, held: certificates.Certificates, name: str, now: datetime.datetime) -> str:
    begins, ends = certificates.valid_from_to(shown)
    names = certificates.dns_names(shown)
    if now >= ends:
        return f"its certificate ended on {certificates.date_text(ends)}"
    if now < begins:
        return f"its certificate begins on {certificates.date_text(begins)}"
    if name not in names:
        return f"its certificate is another's: its DNS names ({', '.join(names) or 'none'}) have no {name}"
    if not held.trusts(shown):
        issuer = shown.issuer.rfc4514_string()
        return f"its certificate is signed by {issuer}, and {held.folder / certificates.CA} has no such authority"
    return ""


def _refused(secured: ssl.SSLSocket, held: certificates.Certificates) -> str:
    """With TLS 1.3 the other side says what it thinks of our certificate after the handshake: by its first bytes, or an
    alert."""
    secured.settimeout(STEP_SECONDS)
    try:
        if secured.recv(1):
            return ""
    except ssl.SSLError as error:
        return _reason(error, held)
    except OSError:
        pass
    return f"it closes the connection when it sees {held.folder / certificates.CERTIFICATE} (signed by {held.issuer})"


def _reason(error: ssl.SSLError, held: certificates.Certificates) -> str:
    path = held.folder / certificates.CERTIFICATE
    for alert, words in _REFUSALS.items():
        if alert in str(error):
            return f"it refuses {path} (signed by {held.issuer}): {words}"
    return f"it refuses {path} (signed by {held.issuer}): {error.reason or error}"
