"""What a processor is given of its worker's environment: the names that it asks for, and nothing else.

A name is a variable of the worker, else a key of a Secret that is mounted below the folder `secrets`, a folder each, as
Kubernetes does: FOLDER/SECRET/NAME. Keys are read whenever they are asked for, so that a Secret that was changed is
used with the next item. A name that nothing has, or whose file can't be used, is left out; values are never logged.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Environment"]

MOST_CHARACTERS = 1 << 20
"""No Secret holds more, and no environment a NUL."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Environment:
    """secrets: the folder of mounted Secrets; None: there are none. variables: the worker's own."""

    secrets: Path | None = None
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def of(self, names: Iterable[str]) -> dict[str, str]:
        """The values of those names that there are."""
        found = {}
        for name in names:
            value = self.variables.get(name)
            if value is None:
                value = self._key(name)
            if value is not None:
                found[name] = value
        return found

    def _key(self, name: str) -> str | None:
        """The first Secret's, by name, that has such a key. The line end that an editor left is none of it."""
        if self.secrets is None or not _NAME.fullmatch(name):
            return None
        for file in sorted(self.secrets.glob(f"*/{name}")):
            try:
                if not file.is_file():  # a pipe would be waited for, by all that the worker does
                    continue
                with file.open() as opened:
                    text = opened.read(MOST_CHARACTERS + 1)
                if len(text) <= MOST_CHARACTERS and "\0" not in text:
                    return text.removesuffix("\n")
            except (OSError, UnicodeDecodeError):
                continue
        return None
