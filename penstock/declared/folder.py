"""All processors that plans may name: those that are installed, and those that a folder declares.

A file is read again when its size, its times or its place on the disk have changed, so what is answered is what is
there now; the class of a file that is as it was stays the same. A folder that is missing or can't be read declares
nothing. A file that is wrong stands among `declared` with its problems, and hides nobody. Safe to use from several
threads.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from penstock.declared.command import CommandProcessor, processor_of
from penstock.declared.declaration import MAX_FILE_BYTES, Problem, read
from penstock.declared.programs import Programs
from penstock.processor import Processor, load_processor, processor_names
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.runtime.logs import get_logger

__all__ = ["INSTALLED", "Declared", "Processors", "declared_in"]

SUFFIX = ".toml"
MAX_FILES = 1_000

_Stamp = tuple[int, int, int, int]

log = get_logger("processors")


@dataclass(frozen=True)
class Declared:
    """One file: its processor, or what is wrong with it. `name` is the file's, without its ending."""

    name: str
    file: Path
    file_hash: str
    problems: Sequence[Problem]
    processor: type[CommandProcessor] | None


class Processors:
    """folder: where declarations lie; None: there are none. disabled: names that may not be used."""

    def __init__(self, folder: Path | None = None, *, disabled: Sequence[str] = ()) -> None:
        self.folder = folder
        self.disabled = frozenset(disabled)
        self.programs = Programs()
        self._lock = threading.Lock()
        self._read: dict[Path, tuple[_Stamp, Declared]] = {}
        self._unreadable = ""

    @cached_property
    def installed(self) -> Sequence[str]:
        """Names of installed processors. What is installed while this program runs is not among them."""
        return processor_names()

    def names(self) -> list[str]:
        """Of all that may be named now, sorted."""
        found = {*self.installed, *(one.name for one in self.declared() if one.processor is not None)}
        return sorted(found - self.disabled)

    def load(self, name: str) -> type[Processor[Any]]:
        """The class. Raises NotFound that lists all names, InvalidInput for one that is disabled (`processor_disabled`)
        and for a declaration that is wrong."""
        if name in self.disabled:
            raise InvalidInput(
                f"processor {name!r} is disabled by the server's settings; there are: {', '.join(self.names())}",
                code="processor_disabled",
            )
        return self.look_up(name)

    def look_up(self, name: str) -> type[Processor[Any]]:
        """As `load`, of one that is disabled, too."""
        if name in self.installed:
            return load_processor(name)
        declared = self.declared()
        one = next((one for one in declared if one.name == name), None)
        if one is None:
            raise NotFound(
                f"no processor named {name!r}; there are: {', '.join(self.names())}", code="processor_not_found"
            )
        if one.processor is None:
            problems = "; ".join(map(str, one.problems))
            raise InvalidInput(f"processor {name!r}, declared in {one.file}: {problems}", code="bad_processor")
        return one.processor

    def declared(self) -> list[Declared]:
        """What the files say now, by name."""
        with self._lock:
            found = {file: self._one(file, stamp) for file, stamp in self._files()}
            self._read = found
            return [declared for _, declared in found.values()]

    def _one(self, file: Path, stamp: _Stamp) -> tuple[_Stamp, Declared]:
        before = self._read.get(file)
        if before is not None and before[0] == stamp:
            return before
        declared = declared_in(file, installed=self.installed, programs=self.programs)
        told = "; ".join(map(str, declared.problems))
        if declared.processor is None:
            log.warning("a declaration can't be used", file=str(file), problems=told)
        return stamp, declared

    def _files(self) -> list[tuple[Path, _Stamp]]:
        """The folder's declarations with what changes when they do. Kubernetes keeps its own beside, with dots."""
        if self.folder is None:
            return []
        found = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX) and not entry.name.startswith(".") and entry.is_file():
                        status = entry.stat()
                        stamp = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                        found.append((Path(entry.path), stamp))
        except FileNotFoundError:
            return []
        except OSError as error:
            if self._unreadable != str(error):
                log.warning("the folder of processors can't be read", folder=str(self.folder), error=error.strerror)
            self._unreadable = str(error)
            return []
        self._unreadable = ""
        return sorted(found)[:MAX_FILES]


def declared_in(file: Path, *, installed: Sequence[str], programs: Programs) -> Declared:
    """What one file declares, read now."""
    name = file.name.removesuffix(SUFFIX)
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return Declared(name, file, "", (Problem(0, f"it can't be read: {error.strerror}"),), None)
    file_hash = hashlib.sha256(data).hexdigest()
    # Absolute, since programs are started in folders of their own.
    found = read(data, name=name, folder=str(file.parent.absolute()), installed=installed)
    if isinstance(found, list):
        return Declared(name, file, file_hash, found, None)
    return Declared(name, file, file_hash, (), processor_of(found, programs))


INSTALLED = Processors()
"""Installed processors alone."""
