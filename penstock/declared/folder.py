"""All processors that plans may name: those that are installed, and those that a folder declares.

A file is read again when its size, its times or its place on the disk have changed, so what is answered is what is
there now; the class of a file that is as it was stays the same. Times of files are coarse: one that changed a moment
ago, or that is dated ahead of us and was seen a moment ago, is read again until they can tell it from what is written
next. A folder that is missing or can't be read declares nothing, and who asks for a processor is told. What is wrong,
as a file that is half written, a folder or a link to nothing of that name, stands among `declared` with its problems,
and hides nobody; so do files past the first MAX_FILES, as one. Safe to use from several threads.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from penstock.declared.command import CommandProcessor, processor_of
from penstock.declared.declaration import MAX_FILE_BYTES, Problem, read
from penstock.declared.form import NAME
from penstock.declared.programs import Programs
from penstock.processor import Processor, load_processor, processor_names
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.runtime.logs import get_logger

__all__ = ["INSTALLED", "Declared", "Processors", "declared_in"]

SUFFIX = ".toml"
MAX_FILES = 1_000
LEFT_OUT = "(left out)"
"""The name under which all that are not read are listed: none that a declaration can have."""
SETTLED_NS = 2_000_000_000
"""So long after a change another one has other times, whatever keeps the files."""

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

    def says(self, other: Declared) -> bool:
        """Whether both tell the same of the same bytes."""
        return self.file_hash == other.file_hash and list(self.problems) == list(other.problems)


class Processors:
    """folder: where declarations lie; None: there are none. disabled: names that may not be used; now_ns: the time, by
    the clock that files are dated by."""

    def __init__(
        self, folder: Path | None = None, *, disabled: Sequence[str] = (), now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self.folder = folder
        self.disabled = frozenset(disabled)
        self.programs = Programs()
        self._now_ns = now_ns
        self._lock = threading.Lock()
        self._read: dict[Path, _Read] = {}
        self._unreadable = ""
        self._left_out = 0

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
                f"no processor named {name!r}; there are: {', '.join(self.names())}{self._hint(name)}",
                code="processor_not_found",
            )
        if one.processor is None:
            problems = "; ".join(map(str, one.problems))
            raise InvalidInput(f"processor {name!r}, declared in {one.file}: {problems}", code="bad_processor")
        return one.processor

    def declared(self) -> list[Declared]:
        """What the files say now, by name."""
        with self._lock:
            files = self._files()
            self._read = {file: self._one(file, stamp) for file, stamp in files[:MAX_FILES]}
            return [*(one.declared for one in self._read.values()), *self._too_many(files[MAX_FILES:])]

    def _hint(self, name: str) -> str:
        """Where a declaration of this name would stand."""
        if self.folder is None:
            return ""
        folder = _printable(str(self.folder))
        if self._unreadable:
            return f"; the folder of processors, {folder}, can't be read: {self._unreadable}"
        return f"; {folder}/{name}{SUFFIX} would declare it" if NAME.fullmatch(name) else ""

    def _one(self, file: Path, stamp: _Stamp) -> _Read:
        before = self._read.get(file)
        if before is not None and before.stamp == stamp and before.settled:
            return before
        now_ns = self._now_ns()
        same = before is not None and before.stamp == stamp
        # Of one that is dated ahead of us its date tells nothing: it settles as long after we saw it first.
        since_ns = before.since_ns if before is not None and same else now_ns
        settled = now_ns - min(max(stamp[2:]), since_ns) > SETTLED_NS
        declared = declared_in(file, installed=self.installed, programs=self.programs)
        if before is not None and before.declared.says(declared):
            return _Read(stamp, since_ns, settled, before.declared)
        if declared.processor is None:
            told = "; ".join(map(str, declared.problems))
            log.warning("a declaration can't be used", file=str(declared.file), problems=told)
        return _Read(stamp, since_ns, settled, declared)

    def _too_many(self, left_out: Sequence[tuple[Path, _Stamp]]) -> list[Declared]:
        """What those that are not read are listed as: one, by the name of the folder."""
        if self._left_out != len(left_out):
            self._left_out = len(left_out)
            if left_out:
                log.warning(
                    "the folder of processors has more declarations than are read",
                    found=MAX_FILES + len(left_out),
                    most=MAX_FILES,
                )
        if not left_out or self.folder is None:
            return []
        first, shown = _printable(left_out[0][0].name), Path(_printable(str(self.folder)))
        told = (
            f"it has {MAX_FILES + len(left_out):,} declarations, of which {MAX_FILES:,} are read, by name: {first} and "
            "those after it are not; take some out"
        )
        return [Declared(LEFT_OUT, shown, "", (Problem(0, told),), None)]

    def _files(self) -> list[tuple[Path, _Stamp]]:
        """What has a declaration's name, with what changes when it does. Kubernetes keeps its own beside, with dots."""
        if self.folder is None:
            return []
        found = []
        try:
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX) and not entry.name.startswith("."):
                        found.append((Path(entry.path), _stamp(entry)))
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            why = "" if missing else error.strerror or type(error).__name__
            if why and self._unreadable != why:
                log.warning("the folder of processors can't be read", folder=_printable(str(self.folder)), error=why)
            self._unreadable = why
            return []
        self._unreadable = ""
        return sorted(found)


@dataclass(frozen=True)
class _Read:
    """since_ns: when it was seen first with this stamp, by our clock; settled: a file with this stamp is this one."""

    stamp: _Stamp
    since_ns: int
    settled: bool
    declared: Declared


def _stamp(entry: os.DirEntry[str]) -> _Stamp:
    for follow in (True, False):
        try:
            status = entry.stat(follow_symlinks=follow)
        except OSError:  # a link to nothing, or to itself: then what changes is the link
            continue
        return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return 0, 0, time.time_ns(), 0  # gone meanwhile, as whoever reads it will say


def _printable(text: str) -> str:
    """A name of the disk as people and messages can have it: what is no UTF-8, and what a terminal obeys, is told by a
    sign of its own."""
    decoded = os.fsencode(text).decode("utf-8", "replace")
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in decoded)


def declared_in(file: Path, *, installed: Sequence[str], programs: Programs) -> Declared:
    """What one file declares, read now."""
    name, shown = _printable(file.name.removesuffix(SUFFIX)), Path(_printable(str(file)))
    try:
        data = _bytes_of(file)
    except OSError as error:
        return Declared(name, shown, "", (Problem(0, f"it can't be read: {_why(file, error)}"),), None)
    file_hash = hashlib.sha256(data).hexdigest()
    try:
        # Absolute, since programs are started in folders of their own.
        found = read(data, name=name, folder=str(file.parent.absolute()), installed=installed)
    except Exception as error:  # a defect of ours: whoever reads the others must not fail with it
        log.exception("a declaration could not be checked", file=str(shown))
        found = [Problem(0, f"it can't be checked ({type(error).__name__}: {error}); the log says where")]
    if isinstance(found, list):
        return Declared(name, shown, file_hash, found, None)
    return Declared(name, shown, file_hash, (), processor_of(found, programs))


def _bytes_of(file: Path) -> bytes:
    # Not blocking: a pipe of that name would keep everybody waiting for who never writes.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "a declaration is a file, and this is none")
        return opened.read(MAX_FILE_BYTES + 1)


def _why(file: Path, error: OSError) -> str:
    why = error.strerror or type(error).__name__
    if isinstance(error, FileNotFoundError) and file.is_symlink():
        return f"it is a link to {_printable(os.readlink(file))}, which is not there"
    return why


INSTALLED = Processors()
"""Installed processors alone."""
