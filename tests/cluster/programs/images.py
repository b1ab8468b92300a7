"""Images without a registry or an engine: one static program as a docker archive, by tarfile alone."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

__all__ = ["archive"]


def archive(target: Path, *, program: Path, name: str, command: Sequence[str] = (), user: int = 65532) -> Path:
    """Writes an image of one layer with one file, /PROGRAM, which it starts; `name` is its reference. Its path."""
    layer = _tar({program.name: program.read_bytes()}, mode=0o755)
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Entrypoint": [f"/{program.name}"], "Cmd": list(command), "User": f"{user}:{user}"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {"config.json": config, "manifest.json": manifest}
    whole = _tar({**{key: json.dumps(value).encode() for key, value in files.items()}, "layer.tar": layer}, mode=0o644)
    target.write_bytes(whole)
    return target


def _tar(files: dict[str, bytes], *, mode: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
    return out.getvalue()
