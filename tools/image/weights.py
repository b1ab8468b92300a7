"""What weighs what in an image, by package: whose file is whose is what the installed metadata says.

Byte code counts to the package of its module; what no package has under /opt/penstock is the environment's, the rest
is the base's.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from posixpath import dirname, join, normpath

from tools.image.archive import Archive, Layer

__all__ = ["BASE", "OURS", "REST", "by_package", "layer_names", "table"]

BASE = "(base system)"
REST = "(environment)"
OURS = "penstock"
HOME = "opt/penstock/"
TOP = 15
MB = 1_000_000


def by_package(archive: Archive) -> Counter[str]:
    """Package -> bytes in the image, unpacked; the base and what is nobody's under names of their own."""
    sizes: Counter[str] = Counter()
    for name, owner in _owned(archive):
        sizes[owner] += archive.files[name].size_bytes
    return sizes


def layer_names(archive: Archive) -> list[str]:
    """What most of each layer is: engines tell who made it each in words of their own."""
    sums = [Counter[str]() for _ in archive.members]
    for name, owner in _owned(archive):
        file = archive.files[name]
        kind = owner if owner in (BASE, OURS) else "(dependencies)"
        sums[file.layer][kind] += file.size_bytes
    return [sizes.most_common(1)[0][0] if sizes else "(nothing)" for sizes in sums]


def _owned(archive: Archive) -> Iterator[tuple[str, str]]:
    """Each file and whose it is."""
    owners = _owners(archive)
    for name in archive.files:
        yield name, owners.get(_module(name), REST if name.startswith(HOME) else BASE)


def _owners(archive: Archive) -> dict[str, str]:
    """File -> package, by the RECORD of each."""
    records = [name for name in archive.files if re.search(r"site-packages/[^/]+\.dist-info/RECORD$", name)]
    owners = {}
    for record, content in archive.read(*records).items():
        package = record.split("/")[-2].removesuffix(".dist-info").rpartition("-")[0].lower().replace("_", "-")
        site = dirname(dirname(record))
        for row in csv.reader(content.decode().splitlines()):
            # What was installed below another root is told by its whole path.
            owners[normpath(join(site, row[0])).lstrip("/")] = package
    return owners


def _module(name: str) -> str:
    """The module of a file of byte code; any other file itself."""
    return re.sub(r"__pycache__/([^/]+)\.cpython-\d+\.pyc$", r"\1.py", name)


def table(archive: Archive, layers: Iterable[Layer]) -> list[str]:
    """The lines of the table: packages by weight, then layers unpacked and packed, then the sums."""
    sizes = by_package(archive)
    named = Counter({name: size for name, size in sizes.items() if name not in (BASE, REST, OURS)})
    heaviest = named.most_common(TOP)
    others = sum(named.values()) - sum(size for _, size in heaviest)
    rows = [*heaviest, (f"{max(0, len(named) - TOP)} other packages", others)]
    rows += [(REST, sizes[REST]), (OURS, sizes[OURS]), (BASE, sizes[BASE]), ("all files", sum(sizes.values()))]
    lines = [f"{'package':<26} {'MB':>11}", *(f"{name:<26} {size / MB:>11.1f}" for name, size in rows), ""]
    lines.append(f"{'layer':<26} {'MB':>11} {'packed MB':>11}")
    unpacked = packed = 0
    for name, layer in zip(layer_names(archive), layers, strict=True):
        unpacked, packed = unpacked + layer.unpacked_bytes, packed + layer.packed_bytes
        lines.append(_row(name, layer.unpacked_bytes, layer.packed_bytes))
    return [*lines, _row("image", unpacked, packed)]


def _row(name: str, unpacked_bytes: int, packed_bytes: int) -> str:
    return f"{name:<26} {unpacked_bytes / MB:>11.1f} {packed_bytes / MB:>11.1f}"
