"""A similarity matrix as inline SVG: rectangles with tooltips while they are few, one palette image when they are many.

Cells are one hue whose opacity is the similarity, so the same drawing serves light and dark paper.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Label", "heatmap", "png"]

SIZE = 640
MARGIN = 44
HUE = (24, 111, 140)
FEW = 48
SMALL = 16


@dataclass(frozen=True)
class Label:
    """A stretch of rows with one name: a cluster, or a document."""

    name: str
    start: int
    end: int


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: Iterable[bytes], width: int, height: int) -> bytes:
    """An image whose bytes are opacities of the one hue."""
    raw = b"".join(b"\0" + row for row in rows)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0))
        + _chunk(b"PLTE", bytes(HUE) * 256)
        + _chunk(b"tRNS", bytes(range(256)))
        + _chunk(b"IDAT", zlib.compress(raw, 6))
        + _chunk(b"IEND", b"")
    )


def _shade(value: float) -> int:
    return min(255, max(0, round(value * 255)))


def heatmap(values: Sequence[float], size: int, labels: Sequence[Label], names: Sequence[str]) -> str:
    """The drawing of a `size` × `size` matrix, row by row in `values`. `names` of the rows, for tooltips."""
    cell = SIZE / size
    parts = [
        f'<svg class="heatmap{" small" if size <= SMALL else ""}" role="img" '
        f'viewBox="0 0 {SIZE + MARGIN} {SIZE + MARGIN}" aria-label="Similarity of {size} by {size}">'
    ]
    if size <= FEW:
        parts.append(f'<g class="cells" transform="translate({MARGIN} {MARGIN})">')
        for row in range(size):
            for column in range(size):
                value = values[row * size + column]
                parts.append(
                    f'<rect x="{column * cell:.2f}" y="{row * cell:.2f}" width="{cell:.2f}" height="{cell:.2f}" '
                    f'fill-opacity="{_shade(value) / 255:.3f}"><title>{escape(names[row])} · '
                    f"{escape(names[column])}: {value:.3f}</title></rect>"
                )
        parts.append("</g>")
    else:
        rows = (bytes(_shade(value) for value in values[at : at + size]) for at in range(0, size * size, size))
        data = base64.b64encode(png(rows, size, size)).decode()
        parts.append(
            f'<image x="{MARGIN}" y="{MARGIN}" width="{SIZE}" height="{SIZE}" class="cells" '
            f'preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
        )
    parts.append(f'<rect class="frame" x="{MARGIN}" y="{MARGIN}" width="{SIZE}" height="{SIZE}"/>')
    parts.extend(_edges(labels, cell))
    parts.append("</svg>")
    return "".join(parts)


def _edges(labels: Sequence[Label], cell: float) -> Iterable[str]:
    """Lines between clusters, and their names where there is room."""
    for label in labels:
        start, end = MARGIN + label.start * cell, MARGIN + label.end * cell
        if label.start and len(labels) * cell < SIZE:  # not where every cell has a name of its own
            yield f'<path class="edge" d="M{MARGIN} {start:.1f}H{MARGIN + SIZE}M{start:.1f} {MARGIN}V{MARGIN + SIZE}"/>'
        if end - start >= 13:
            middle = (start + end) / 2
            name = escape(label.name)
            yield f'<text x="{MARGIN - 6}" y="{middle + 4:.1f}" text-anchor="end">{name}</text>'
            if end - start >= 8 * len(label.name) + 4:
                yield f'<text x="{middle:.1f}" y="{MARGIN - 8}" text-anchor="middle">{name}</text>'
