"""Where the running Penstock is: from what the caller says, else from the environment, else the default data folder.

The order: arguments (`url` or `data`), PENSTOCK_DATA, PENSTOCK_URL, the default data folder if something serves
there. A data folder names its server in `endpoints.json` and keeps the token beside it; a URL is asked for its gRPC
addresses, which lie on the same machine. Nothing found, or nobody alive behind it: Unavailable, one line that names
`penstock up`.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from penstock.runtime.data_folder import default_data
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable

__all__ = ["Endpoints", "find"]

HTTP_SECONDS = 5.0
SERVICES = ("planner", "scheduler", "analyzer")


@dataclass(frozen=True)
class Endpoints:
    """One gRPC address a service (`host:port`), and what else a client on the same machine may use.

    http: base URL of the gateway; data: the data folder; token: what gRPC calls carry; blobs: folder of the blob store,
    unless it lies in S3: then blobs_url, s3_endpoint and s3_region are as in the settings, and keys the caller's own.
    """

    planner: str
    scheduler: str
    analyzer: str
    http: str = ""
    data: Path | None = None
    token: str | None = None
    blobs: Path | None = None
    blobs_url: str = ""
    s3_endpoint: str = ""
    s3_region: str = ""


def find(
    *, url: str | None = None, data: Path | str | None = None, environment: Mapping[str, str] | None = None
) -> Endpoints:
    """The endpoints of the server that is meant.

    Raises Unavailable (code `not_running`), or InvalidInput for a bad URL.
    """
    environment = os.environ if environment is None else environment
    if url:
        return _from_url(url)
    if data:
        return _from_data(Path(data))
    if environment.get("PENSTOCK_DATA"):
        return _from_data(Path(environment["PENSTOCK_DATA"]))
    if environment.get("PENSTOCK_URL"):
        return _from_url(environment["PENSTOCK_URL"])
    folder = default_data(environment)
    if (folder / "endpoints.json").exists():
        return _from_data(folder)
    raise Unavailable(
        "no Penstock is running here: start one with `penstock up`, or name one with --data DIR or PENSTOCK_URL",
        code="not_running",
    )


def _not_running(folder: Path) -> Unavailable:
    return Unavailable(
        f"no Penstock is running on {folder}: start it with `penstock up --data {folder}`", code="not_running"
    )


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _from_data(folder: Path) -> Endpoints:
    place = folder.expanduser().absolute()
    try:
        told = json.loads((place / "endpoints.json").read_text())
        if not _alive(told["pids"]["supervisor"]):
            raise _not_running(folder)
        addresses = {name: str(told[name]) for name in SERVICES}
        http = str(told.get("http", ""))
        blobs = Path(told.get("blobs") or place / "blobs")
        in_s3 = _in_s3(told)
    except FileNotFoundError:
        raise _not_running(folder) from None
    except OSError as error:
        raise Unavailable(f"{place / 'endpoints.json'} can't be read: {error.strerror}", code="not_running") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unavailable(
            f"{place / 'endpoints.json'} is damaged: start Penstock again with `penstock up --data {folder}`",
            code="not_running",
        ) from None
    return Endpoints(**addresses, http=http, data=place, token=_token(place), blobs=blobs, **in_s3)


def _in_s3(told: Mapping[str, object]) -> dict[str, str]:
    return {name: str(told.get(name) or "") for name in ("blobs_url", "s3_endpoint", "s3_region")}


def _token(folder: Path) -> str | None:
    try:
        return (folder / "token").read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Unavailable(
            f"the token of {folder} can't be read: {error.strerror}; only the user who runs `penstock up` may",
            code="unauthenticated",
        ) from error


def _from_url(url: str) -> Endpoints:
    base = url.rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise InvalidInput(f"PENSTOCK_URL {url!r} is no URL: http://127.0.0.1:8420 is one", code="bad_url")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{base}/api/v1/endpoints", timeout=HTTP_SECONDS) as answer:
            told = json.loads(answer.read(1 << 16))
        addresses = {name: str(told[name]) for name in SERVICES}
        folder = Path(told["data"]) if told.get("data") else None
        return Endpoints(
            **addresses,
            http=base,
            data=folder,
            token=_token(folder) if folder else None,
            blobs=Path(told["blobs"]) if told.get("blobs") else None,
            **_in_s3(told),
        )
    except PenstockError:
        raise
    except (ValueError, KeyError, TypeError, urllib.error.HTTPError):
        raise Unavailable(
            f"what answers at {base} is no Penstock: give the URL that `penstock up` printed", code="not_running"
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise Unavailable(
            f"no Penstock answers at {base} ({reason}): start one with `penstock up`", code="not_running"
        ) from None
