"""Images without a registry or an engine: layers that are there, or one static program, as docker archives."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["archive", "layer_of", "write"]


def archive(target: Path, *, program: Path, name: str, command: Sequence[str] = (), user: int = 65532) -> Path:
    """Writes an image of one layer with one file, /PROGRAM, which it starts; `name` is its reference. Its path."""
    config = {"Entrypoint": [f"/{program.name}"], "Cmd": list(command), "User": f"{user}:{user}"}
    return write(target, layers=[layer_of({program.name: program.read_bytes()})], names=[name], config=config)


def write(target: Path, *, layers: Sequence[Path | bytes], names: Sequence[str], config: Mapping[str, Any]) -> Path:
    """Writes an image of tars, the lowest first, under all its names. Its path."""
    hashes = [_sha256(layer) for layer in layers]
    whole = {
        "architecture": "amd64",
        "os": "linux",
        "config": dict(config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one}" for one in hashes]},
    }
    files = [f"layer-{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": list(names), "Layers": files}]
    with tarfile.open(target, "w") as tar:
        for name, value in (("config.json", whole), ("manifest.json", manifest)):
            _add(tar, name, json.dumps(value).encode(), mode=0o644)
        for name, layer in zip(files, layers, strict=True):
            if isinstance(layer, bytes):
                _add(tar, name, layer, mode=0o644)
            else:
                tar.add(layer, arcname=name)
    return target


def layer_of(programs: Mapping[str, bytes]) -> bytes:
    """A layer of executable files by their paths."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in programs.items():
            _add(tar, name, content, mode=0o755)
    return out.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, *, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _sha256(layer: Path | bytes) -> str:
    if isinstance(layer, bytes):
        return hashlib.sha256(layer).hexdigest()
    with layer.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
