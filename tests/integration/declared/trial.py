"""A declaration of a test's own, run as a worker runs it; and who of its processes lives."""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.declared.command import CommandProcessor, processor_of
from penstock.declared.declaration import Declaration, read
from penstock.declared.programs import FOLDER_PREFIX, Programs
from penstock.processor import Context, Mode, Outcome, Parameters, WorkItem, validate_parameters
from penstock.runtime.blobs import BlobStore
from penstock.runtime.environment import Environment

__all__ = ["Trial", "alive", "folders"]

HEAD = 'name = "trial"\nversion = "1"\nkind = "command"\ndescription = "For trials."\n'


@dataclass
class Trial:
    """`mark` stands in the command lines of what a test starts, so that its processes are known from all others."""

    folder: Path
    programs: Programs
    blobs: BlobStore
    mark: str = field(default_factory=lambda: f"trial-{secrets.token_hex(8)}")
    told: list[tuple[float, str]] = field(default_factory=list)
    progressed: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    environment: Environment = field(default_factory=Environment)

    def processor(self, argv: str, more: str = "") -> CommandProcessor:
        """argv: as TOML; MARK in it is the mark."""
        text = f"{HEAD}argv = {argv.replace('MARK', self.mark)}\n{more}"
        found = read(text.encode(), name="trial", folder=str(self.folder))
        assert isinstance(found, Declaration), "; ".join(map(str, found))
        return processor_of(found, self.programs)()

    def sh(self, script: str, more: str = "") -> CommandProcessor:
        """A program that is a shell script: it sees no placeholder."""
        (self.folder / "script.sh").write_text(f": MARK\n{script}\n".replace("MARK", self.mark))
        return self.processor('["sh", "{here}/script.sh", "MARK"]', more)

    def python(self, script: str, more: str = "") -> CommandProcessor:
        (self.folder / "script.py").write_text(script)
        return self.processor('["python3", "-I", "-S", "{here}/script.py", "MARK"]', more)

    async def outcome(
        self,
        processor: CommandProcessor,
        payload: Mapping[str, Any] | None = None,
        *,
        seconds: float = 30.0,
        parameters: Mapping[str, Any] | None = None,
        mode: Mode = "work",
        **item: Any,
    ) -> Outcome:
        context: Context[Parameters] = Context(
            validate_parameters(type(processor), parameters or {}),
            self.blobs,
            asyncio.get_running_loop().time() + seconds,
            cancelled=self.cancelled,
            on_progress=self._progress,
            environment=self.environment.of((*processor.environment_needs, *processor.environment_allows)),
        )
        return await processor.process(WorkItem("run", 0, 0, "k", "g", payload or {}, mode=mode, **item), context)

    def _progress(self, share: float, phase: str) -> None:
        self.told.append((share, phase))
        self.progressed.set()

    async def running(self, processor: CommandProcessor) -> asyncio.Task[Outcome]:
        """Starts it and waits for its first line of progress."""
        task = asyncio.create_task(self.outcome(processor))
        await self.progressed.wait()
        return task

    def alive(self) -> list[int]:
        return alive(self.mark)


def alive(mark: str) -> list[int]:
    """Pids of living processes with these words in their command line, ours left out."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if mark.encode() in words and int(name) != os.getpid():
            found.append(int(name))
    return found


def folders() -> set[str]:
    """Of items that are under way."""
    return {name for name in os.listdir(tempfile.gettempdir()) if name.startswith(FOLDER_PREFIX)}
