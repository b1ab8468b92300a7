"""Where blobs lie, as the settings say: a folder, or S3 with a folder of local copies."""

from __future__ import annotations

import os
from pathlib import Path

from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import Unavailable
from penstock.runtime.settings import Settings

__all__ = ["blobs_at", "open_blobs"]

CLIENT_CACHE_BYTES = 256 << 20


def open_blobs(settings: Settings) -> BlobStore:
    """Raises InvalidInput where nothing says where they lie or s3fs is missing, Unavailable where the folder can't be
    used. S3 itself is first asked by who needs it."""
    return blobs_at(
        settings.blob_folder(),
        url=settings.blobs_url,
        endpoint=settings.s3_endpoint,
        region=settings.s3_region,
        cache_bytes=settings.blob_cache_bytes,
    )


def blobs_at(
    folder: Path | None, *, url: str = "", endpoint: str = "", region: str = "", cache_bytes: int = CLIENT_CACHE_BYTES
) -> BlobStore:
    """The same of parts: `url` empty means a folder. Without a folder local copies lie in the user's own cache."""
    if not url:
        if folder is None:
            raise Unavailable("nothing says where blobs lie")
        return BlobStore(folder)
    # Loaded only where it is used, as what it loads itself is.
    from penstock.runtime.blobs_s3 import S3BlobStore
    from penstock.runtime.s3 import S3Place

    place = S3Place.of(url, endpoint=endpoint, region=region)
    return S3BlobStore(place, folder or _own_cache(), cache_bytes=cache_bytes)


def _own_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "penstock" / "blobs"
