"""HTTPS by `gateway.tls_folder` (tls.crt, tls.key: a mounted kubernetes.io/tls Secret).

The files are looked at every few seconds; new ones serve the connections that come after, and those that are open go
on. New files that can't be used are told in the log, and the old ones stay.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from penstock.runtime.errors import InvalidInput
from penstock.runtime.logs import get_logger

__all__ = ["CERTIFICATE", "KEY", "check_folder", "renew"]

CERTIFICATE = "tls.crt"
KEY = "tls.key"
LOOK_SECONDS = 5.0

log = get_logger("gateway")


def check_folder(folder: Path) -> None:
    """Raises InvalidInput that says which file can't be used, and why."""
    for name in (CERTIFICATE, KEY):
        try:
            (folder / name).read_bytes()
        except OSError as error:
            raise InvalidInput(f"gateway.tls_folder: {folder / name}: {error.strerror}", code="settings") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / CERTIFICATE, folder / KEY)
    except ssl.SSLError as error:
        why = "the key does not belong to the certificate" if "MISMATCH" in str(error) else str(error.reason or error)
        raise InvalidInput(f"gateway.tls_folder: {folder}: {why}", code="settings") from error


def _seen(folder: Path) -> tuple[bytes, bytes]:
    return (folder / CERTIFICATE).read_bytes(), (folder / KEY).read_bytes()


async def renew(context: ssl.SSLContext, folder: Path, *, look_seconds: float = LOOK_SECONDS) -> None:
    """Until cancelled."""
    before = _seen(folder)
    while True:
        await asyncio.sleep(look_seconds)
        try:
            found = _seen(folder)
            if found == before:
                continue
            check_folder(folder)  # a context that took a certificate without its key would serve nobody
            context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
        except (OSError, InvalidInput) as error:
            log.warning("the new certificate can't be used; the one before stays", error=str(error))
        else:
            before = found
            log.info("the certificate was replaced")
