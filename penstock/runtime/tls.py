"""Who a program is over mutual TLS: the certificate folder, read again when its files change.

    server   asks at each handshake for what the folder holds then; connections that stand are left alone
    client   looks at most once a second, when it calls; new files mean a new channel, calls under way end on the old

Newer files that can't be used (half written, of another program, ended) are not taken while the older ones hold: that
is logged once and shown by `penstock_certificate_refused`. When what is held has ended, `check` says so by path and
date, and readiness with it. A program that starts with files that can't be used does not start.
"""

from __future__ import annotations

import contextvars
import datetime
import functools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import structlog

from penstock.runtime import callers, metrics
from penstock.runtime.errors import InvalidInput, Unavailable
from penstock.runtime.logs import get_logger

if TYPE_CHECKING:
    from penstock.runtime.certificates import Certificates
    from penstock.runtime.settings import Settings

__all__ = ["Identity", "Proof", "identity", "proof_of"]

LOOK_SECONDS = 1.0

_Stamp = tuple[tuple[int, int, int] | None, ...]

log = get_logger("tls")


class Identity:
    """The folder, and what of it holds now. Any thread may ask. Raises InvalidInput (code `tls`) when the folder can't
    be used, with every problem by its path."""

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # cryptography takes a tenth of a second to load: only who has certificates pays for it.
        from penstock.runtime import certificates

        self._read = certificates.read
        self._files = [folder / name for name in certificates.FILES]
        self.folder = folder
        self._now = now
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._context = contextvars.copy_context()
        self._wanted = ""
        self._uses: set[str] = set()
        self._refused: tuple[_Stamp, str] | None = None
        self._seen = self._stamp()
        self._held = self._read(folder)
        self._looked = monotonic()
        metrics.CERTIFICATE_EXPIRY.labels("tls.crt").set_function(self.left_seconds)
        metrics.CERTIFICATE_EXPIRY.labels("ca.crt").set_function(self.authority_left_seconds)
        metrics.CERTIFICATE_REFUSED.labels("tls.crt").set(0)

    def expect(self, program: str) -> None:
        """Says whose certificate it has to be. Raises InvalidInput when it is another's, or for another use."""
        with self._lock:
            self._wanted = f"penstock-{program}"
            self._uses = set()
            if program in callers.RULES:
                self._uses.add("server auth")
            if any(edge.caller == program for edge in callers.edges()):
                self._uses.add("client auth")
            if why := self._foreign(self._held):
                raise InvalidInput(why, code="tls")
            if self._held.authority_ends is None:
                what = "no authority in ca.crt has signed tls.crt: programs that have the same ca.crt will refuse it"
                self._say(log.warning, what, issuer=self._held.issuer)

    def current(self) -> Certificates:
        """What to show and trust now: the same value until the files change."""
        if self._monotonic() - self._looked >= LOOK_SECONDS:
            self.look()
        return self._held

    def look(self) -> Certificates:
        """The same, looked at just now."""
        with self._lock:
            self._looked = self._monotonic()
            stamp = self._stamp()
            if stamp != self._seen:
                self._take(stamp)
            elif self._refused is not None:  # what was there before is there again
                self._refused = None
                metrics.CERTIFICATE_REFUSED.labels("tls.crt").set(0)
            return self._held

    @property
    def refused(self) -> str:
        """Why what lies there now is not taken; "" where what is held is what lies there."""
        refused = self._refused
        return refused[1] if refused is not None else ""

    async def check(self) -> None:
        """Raises Unavailable (code `certificate_ended`) when what is held can't be used at this time."""
        why = self.current().ended(self._when())
        if why and self._refused is not None:
            why += f" (what is there now can't be used: {self._refused[1]})"
        if why:
            raise Unavailable(why, code="certificate_ended", cause="its certificate does not hold at this time")

    def server_credentials(self) -> grpc.ServerCredentials:
        """For a listener: callers have to show a certificate; both sides' files are looked at in every handshake."""
        shown = self.look()

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal shown
            held = self.look()
            if held is shown:
                return None
            shown = held
            return _configuration(held)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(shown),
            fetch,  # type: ignore[arg-type]  # None is allowed: nothing has changed
            require_client_authentication=True,
        )

    def left_seconds(self) -> float:
        """Until the program's own certificate ends; below 0 when it has."""
        return self._held.not_after.timestamp() - self._now()

    def authority_left_seconds(self) -> float:
        """Until the authority ends that signed it; where ca.crt has none that did, until the first of them ends."""
        held = self._held
        ends = held.authority_ends or min(one.not_valid_after_utc for one in held.authorities)
        return ends.timestamp() - self._now()

    def _take(self, stamp: _Stamp) -> None:
        """Reads what is new; what is refused is read again at each look, since time or a further file may mend it."""
        try:
            found = self._read(self.folder)
            if self._stamp() != stamp:  # written while it was read: the next look has all of it
                return
            why = self._foreign(found) or found.ended(self._when())
        except InvalidInput as error:
            why = error.message
        except Exception as error:  # a handshake asks: what nobody has foreseen in a file must not end it
            why = f"{type(error).__name__}: {error}"
        metrics.CERTIFICATE_REFUSED.labels("tls.crt").set(1 if why else 0)
        if why:
            if self._refused != (stamp, why):
                self._say(log.error, "new certificates can't be used; the old ones are kept", error=why)
            self._refused = (stamp, why)
            return
        self._seen, self._held, self._refused = stamp, found, None
        self._say(log.info, "new certificates are in use", ends=found.not_after.isoformat())

    def _say(self, say: Callable[..., object], what: str, **fields: str) -> None:
        """In a program of ours; a client's standard output is its own. A handshake's thread knows no program's name."""
        if structlog.is_configured():
            self._context.copy().run(say, what, folder=str(self.folder), **fields)

    def _foreign(self, certificates: Certificates) -> str:
        path = self.folder / "tls.crt"
        if self._wanted and self._wanted not in certificates.names:
            names = ", ".join(certificates.names) or "none"
            return f"the certificate {path} is another's: its DNS names ({names}) have no {self._wanted}"
        if lacking := ", ".join(sorted(self._uses - certificates.usages)):
            return f"the certificate {path} is not for the use that {self._wanted} has for it: {lacking} is lacking"
        return ""

    def _stamp(self) -> _Stamp:
        return tuple(map(_stamp, self._files))

    def _when(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._now(), datetime.UTC)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """Of the file that the name leads to: a mounted secret changes by a link that is moved."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _configuration(held: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(held.key, held.chain)], held.ca)


Proof = str | Identity | None
"""How a program shows who it is: a token, certificates, or not at all."""


def proof_of(settings: Settings) -> Proof:
    """How this process's calls show who makes them, and what its listener asks for: certificates where there is a
    folder of them, else the token. Raises InvalidInput when the files of either can't be used."""
    return identity(Path(settings.tls.folder).absolute()) if settings.tls.folder else settings.token()


@functools.cache
def identity(folder: Path) -> Identity:
    """The one of this process for a folder: all its channels and its listener look at the files once."""
    return Identity(folder)
