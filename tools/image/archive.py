"""An image as it was saved (a docker archive): its layers, its files as a container sees them, its configuration.

The archive stays as it is; only what is asked for is read. Names are the paths of the image without the leading slash.
Raises ValueError for a file that is no such archive.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

__all__ = ["Archive", "File", "Layer", "opened"]

_CHUNK = 1 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, kw_only=True)
class File:
    """What the image has under one name; `layer` counts from the base's first."""

    size_bytes: int
    layer: int
    mode: int
    owner: int
    kind: bytes
    """As tar has it: REGTYPE, DIRTYPE, SYMTYPE, …"""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer: its bytes as a tar, and as a registry keeps it."""

    unpacked_bytes: int
    packed_bytes: int


@dataclass(frozen=True, kw_only=True)
class Archive:
    path: Path
    files: Mapping[str, File]
    config: Mapping[str, Any]
    members: tuple[str, ...]
    """Names of the layers within the archive."""

    @property
    def labels(self) -> Mapping[str, str]:
        return cast("Mapping[str, str]", self.config.get("config", {}).get("Labels") or {})

    def read(self, *names: str) -> dict[str, bytes]:
        """The content of regular files. Raises KeyError for one that is not there."""
        wanted: dict[int, list[str]] = {}
        for name in names:
            wanted.setdefault(self.files[name].layer, []).append(name)
        contents = {}
        with tarfile.open(self.path) as outer:
            for number, inside in wanted.items():
                with tarfile.open(fileobj=_member(outer, self.members[number])) as layer:
                    left = set(inside)
                    for info in layer:
                        if (name := _plain(info.name)) in left:
                            opened_file = layer.extractfile(info)
                            contents[name] = opened_file.read() if opened_file else b""
                            left.discard(name)
                        if not left:
                            break
        return contents

    def layers(self) -> list[Layer]:
        """Each layer, weighed: packs all of it, which takes a second for 25 MB."""
        weighed = []
        with tarfile.open(self.path) as outer:
            for member in self.members:
                with _member(outer, member) as stream:
                    unpacked, packed = _weigh(stream)
                weighed.append(Layer(unpacked_bytes=unpacked, packed_bytes=packed))
        return weighed


def opened(path: Path) -> Archive:
    """Reads what is in the archive, not its contents. Raises ValueError."""
    try:
        with tarfile.open(path) as outer:
            (manifest,) = json.load(_member(outer, "manifest.json"))
            config = json.load(_member(outer, manifest["Config"]))
            files: dict[str, File] = {}
            for number, member in enumerate(manifest["Layers"]):
                with tarfile.open(fileobj=_member(outer, member)) as layer:
                    _lay(files, layer, number)
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise ValueError(f"{path} is no archive of one image: {error}") from None
    return Archive(path=path, files=files, config=config, members=tuple(manifest["Layers"]))


def _member(outer: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = outer.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is no file")
    return stream


def _plain(name: str) -> str:
    return name.removeprefix("./").strip("/")


def _lay(files: dict[str, File], layer: tarfile.TarFile, number: int) -> None:
    """One layer over what lies below: what it has, and what it takes away."""
    gone: list[str] = []
    for info in layer:
        name = _plain(info.name)
        folder, _, last = name.rpartition("/")
        if last == _OPAQUE:
            gone += [other for other in files if other.startswith(f"{folder}/") and files[other].layer < number]
        elif last.startswith(_WHITEOUT):
            hidden = f"{folder}/{last.removeprefix(_WHITEOUT)}".lstrip("/")
            gone += [other for other in files if other == hidden or other.startswith(f"{hidden}/")]
        elif name:
            # A hard link weighs what it links to once, under the name that came first.
            size = info.size if info.isreg() else 0
            files[name] = File(size_bytes=size, layer=number, mode=info.mode, owner=info.uid, kind=info.type)
    for name in gone:
        if name in files and files[name].layer < number:
            del files[name]


def _weigh(stream: IO[bytes]) -> tuple[int, int]:
    """Bytes unpacked and packed. A layer that is packed already is taken at its word."""
    packed_already = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    unpacker = zlib.decompressobj(wbits=31) if packed_already else None
    packer = zlib.compressobj(6, wbits=31)
    unpacked = packed = 0
    while chunk := stream.read(_CHUNK):
        if unpacker is None:
            unpacked += len(chunk)
            packed += len(packer.compress(chunk))
        else:
            unpacked += len(unpacker.decompress(chunk))
            packed += len(chunk)
    return unpacked, packed if packed_already else packed + len(packer.flush())
