"""What the child says to the planner: frames on its standard output, each a kind, a length and that many bytes.

KEYS: lines of JSON, `{"key":"…"}`, cut anywhere. DONE: there are no more. REFUSED: a JSON object that says why there is
no answer; nothing comes after these two. Both sides import this, so it imports little. Pure.
"""

from __future__ import annotations

import struct

__all__ = ["DONE", "HEAD_BYTES", "KEYS", "MAX_FRAME_BYTES", "REFUSED", "head", "parse_head"]

KEYS, DONE, REFUSED = b"k", b"d", b"r"
MAX_FRAME_BYTES = 1 << 20
_HEAD = struct.Struct(">cI")
HEAD_BYTES = _HEAD.size


def head(kind: bytes, size: int) -> bytes:
    return _HEAD.pack(kind, size)


def parse_head(data: bytes | bytearray) -> tuple[bytes, int]:
    """(kind, length) of the first HEAD_BYTES. Raises ValueError for what no child of ours says."""
    kind, size = _HEAD.unpack_from(data)
    if kind not in (KEYS, DONE, REFUSED) or size > MAX_FRAME_BYTES:
        raise ValueError(f"a frame {kind!r} of {size} bytes")
    return kind, size
