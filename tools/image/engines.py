"""docker, podman and buildah, as far as an image is built, asked about and saved.

Each is a program that is found on PATH and answers; which of them is a matter of taste alone. buildah runs the build's
commands by chroot unless BUILDAH_ISOLATION says otherwise: that needs no container runtime. What a program refuses is
EngineFailed with its own words; nothing is left behind but what its store has cached.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NAMES", "Engine", "EngineFailed", "found", "named"]

NAMES = ("docker", "podman", "buildah")
_ASKED = {
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "podman": ("version", "--format", "{{.Client.Version}}"),
    "buildah": ("version",),
}
_DIGEST = {
    # What was built here and never pushed has none but its own id.
    "docker": ("image", "inspect", "--format", "{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}"),
    "podman": ("image", "inspect", "--format", "{{.Digest}}"),
    "buildah": ("inspect", "--type", "image", "--format", "{{.FromImageDigest}}"),
}
ANSWER_SECONDS = 30


class EngineFailed(Exception):
    """In words for whoever asked for the image."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One of the three. `options` stand before each command, such as where buildah keeps its store; `inside` is a
    program that runs all of it, such as unshare."""

    name: str
    options: tuple[str, ...] = ()
    inside: tuple[str, ...] = ()

    def build(
        self, folder: Path, tag: str, *, arguments: Mapping[str, str], options: Sequence[str] = (), file: str = ""
    ) -> None:
        """Builds the folder's Dockerfile; what it prints goes on. Raises EngineFailed."""
        given = [f"--build-arg={name}={value}" for name, value in arguments.items()]
        given += [f"--file={folder / file}"] if file else []
        # A base of this machine alone can't be pulled, and need not be: it is there.
        given += ["--pull=false"] if self.name == "docker" else ["--pull=false", "--layers"]
        self._run("build", f"--tag={tag}", *given, *options, str(folder))

    def save(self, tag: str, archive: Path) -> None:
        """Writes the image as a docker archive, whole or not at all. Raises EngineFailed."""
        part = archive.with_name(f"{archive.name}.part")
        part.unlink(missing_ok=True)
        match self.name:
            case "docker":
                self._run("save", "--output", str(part), tag)
            case "podman":
                self._run("save", "--quiet", "--format", "docker-archive", "--output", str(part), tag)
            case _:
                self._run("push", "--quiet", tag, f"docker-archive:{part}:{tag}")
        part.replace(archive)

    def digest(self, image: str) -> str:
        """The digest of an image that is in this machine's store; empty when it is not there."""
        told = subprocess.run(self._command(*_DIGEST[self.name], image), capture_output=True, text=True, check=False)
        return told.stdout.strip().rpartition("@")[2] if told.returncode == 0 else ""

    def _command(self, *arguments: str) -> list[str]:
        return [*self.inside, self.name, *self.options, *arguments]

    def _run(self, *arguments: str) -> None:
        isolation = {"BUILDAH_ISOLATION": os.environ.get("BUILDAH_ISOLATION", "chroot")}
        ended = subprocess.run(self._command(*arguments), env={**os.environ, **isolation}, check=False)
        if ended.returncode:
            raise EngineFailed(f"{self.name} {arguments[0]} failed ({ended.returncode}); its own words are above")


def _silent(name: str) -> str:
    """Why a program can't be used; empty when it answers."""
    if shutil.which(name) is None:
        return f"{name} is not on PATH"
    try:
        told = subprocess.run(
            [name, *_ASKED[name]], capture_output=True, text=True, check=False, timeout=ANSWER_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{name} does not answer ({error})"
    if told.returncode:
        words = (told.stderr.strip() or told.stdout.strip()).splitlines()
        return f"{name} is there but can't be used: {words[-1] if words else f'it ends with {told.returncode}'}"
    return ""


def named(name: str) -> Engine:
    """The engine that was asked for. Raises EngineFailed when it can't be used."""
    if reason := _silent(name):
        raise EngineFailed(f"no image: {reason}")
    return Engine(name=name)


def found() -> Engine:
    """The first of the three that answers. Raises EngineFailed that says of each why it can't be used."""
    reasons = []
    for name in NAMES:
        reason = _silent(name)
        if not reason:
            return Engine(name=name)
        reasons.append(reason)
    raise EngineFailed(
        "no image: one of docker, podman or buildah is needed (on Debian, `apt-get install buildah`); "
        + "; ".join(reasons)
    )
