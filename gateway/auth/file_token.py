"""The first admin token: what stands in the file `gateway.admin_token_file`.

It is no row: whoever may change the file (a mounted Secret) changes the token, and the old one ends with it, at each
gateway as soon as it sees the new file. A file that can't be read later on leaves the last token as it was, with a
warning: a Secret that is being replaced must not lock people out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.auth.secrets import digest, same
from penstock.runtime.errors import InvalidInput
from penstock.runtime.logs import get_logger

__all__ = ["ACTOR", "LEAST_CHARACTERS", "FileToken"]

ACTOR = "admin"
"""As events name who comes with it."""
LEAST_CHARACTERS = 32
MOST_BYTES = 4_096
LOOK_SECONDS = 5.0

log = get_logger("auth")


def _read(path: Path) -> bytes:
    """The hash of the token in the file. Raises InvalidInput that says what would be right."""
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode("ascii").strip()
    except OSError as error:
        raise InvalidInput(f"gateway.admin_token_file {path}: {error.strerror}", code="settings") from error
    except UnicodeDecodeError:
        raise InvalidInput(f"gateway.admin_token_file {path} holds no plain ASCII text", code="settings") from None
    if not LEAST_CHARACTERS <= len(text) <= MOST_BYTES or any(sign.isspace() for sign in text):
        raise InvalidInput(
            f"gateway.admin_token_file {path} holds no token: one line of at least {LEAST_CHARACTERS} characters "
            "without spaces is needed, as `openssl rand -hex 32` makes one",
            code="settings",
        )
    return digest(text)


class FileToken:
    """Raises InvalidInput when the file has no token at the start."""

    def __init__(self, path: Path, monotonic: Callable[[], float]) -> None:
        self._path = path
        self._monotonic = monotonic
        self._looked = monotonic()
        self._sha256 = _read(path)

    @property
    def sha256(self) -> bytes:
        """Of the token as the file has it now, looked at every few seconds."""
        now = self._monotonic()
        if now - self._looked >= LOOK_SECONDS:
            self._looked = now
            try:
                found = _read(self._path)
            except InvalidInput as error:
                log.warning("the file of the admin token can't be used; the token before stays", error=error.message)
            else:
                if not same(found, self._sha256):
                    log.info("the admin token was replaced")
                self._sha256 = found
        return self._sha256

    def is_it(self, secret_sha256: bytes) -> bool:
        return same(self.sha256, secret_sha256)
