"""Why two programs can't agree on mutual TLS, in words: asked by a handshake of our own, after gRPC's has failed.

gRPC says `Socket closed` to a caller whose certificate is refused, and little more in other cases. Here the same
handshake is done once more with nothing checked, so that what the other side shows can be read, and its answer to
what we show. It changes nothing, takes at most a few seconds in a thread, and is not done again within 2 s.
"""

from __future__ import annotations

import asyncio
import datetime
import functools
import socket
import ssl
import time

import grpc
from cryptography import x509

from penstock.runtime import certificates
from penstock.runtime.tls import Identity

__all__ = ["Explaining", "explain"]

STEP_SECONDS = 1.0
AGAIN_SECONDS = 2.0

_SIGNS = ("handshake", "verification", "socket closed", "connection reset", "broken pipe", "endpoint")
"""In gRPC's words where a connection was made and the two did not agree."""


class Explaining(grpc.aio.UnaryUnaryClientInterceptor):
    """Puts the explanation in place of gRPC's words, where there is one."""

    def __init__(self, address: str, identity: Identity, service: str) -> None:
        self._address = address
        self._identity = identity
        self._service = service
        self._told = ""
        self._until = 0.0
        self._asking = asyncio.Lock()

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
        async with self._asking:  # calls that fail together ask once
            if time.monotonic() >= self._until:
                ask = functools.partial(explain, self._address, self._identity, self._service, details=details)
                self._told = await asyncio.to_thread(ask)
                self._until = time.monotonic() + AGAIN_SECONDS
            return self._told


def explain(address: str, identity: Identity, service: str, *, details: str = "") -> str:
    """What is wrong between us and the service, or "" when nothing is to be seen. details: what gRPC said."""
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
            leaf = x509.load_der_x509_certificate(shown) if shown else None
            why = _wrong(leaf, held, name, now) if leaf else ""
            # Whether what stands between it and an authority leads to ours is gRPC's to say: here one sees the leaf.
            if leaf and not why and "VERIFY_FAILED" in details and not held.trusts(leaf):
                issuer, trusted = leaf.issuer.rfc4514_string(), held.folder / certificates.CA
                why = f"its certificate is signed by {issuer}, and {trusted} has no such authority"
            why = why or _refused(secured, held)
    except ssl.SSLError as error:
        if "WRONG_VERSION_NUMBER" in str(error) or "PACKET_LENGTH" in str(error):
            why = "it answers without TLS: tls.folder is set here and not there"
        else:
            why = f"the handshake fails: {error.reason or error}"
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
    return ""


def _refused(secured: ssl.SSLSocket, held: certificates.Certificates) -> str:
    """With TLS 1.3 the other side looks at our certificate after the handshake: then come its first bytes, or the end
    of the connection. gRPC's servers do not say why."""
    secured.settimeout(STEP_SECONDS)
    try:
        if secured.recv(1):
            return ""
    except TimeoutError:
        return ""
    except OSError:
        pass
    path = held.folder / certificates.CERTIFICATE
    return f"it refuses {path}: most likely its ca.crt does not have the authority {held.issuer}, or its clock is wrong"
