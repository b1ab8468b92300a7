"""Where the running Penstock is: from what the caller says, else from the environment, else the default data folder.

The order: arguments (`url` or `data`), PENSTOCK_DATA, PENSTOCK_URL, the default data folder if something serves
there. A data folder names its server in `endpoints.json` and keeps the token beside it; a URL is asked for its gRPC
addresses, which lie on the same machine, or in the same cluster: there PENSTOCK_TLS__FOLDER says with which
certificates to call. The API token (PENSTOCK_TOKEN) goes with the question where one is given: a gateway that asks who
calls tells nothing without. Nothing found, or nobody alive behind it: Unavailable, one line that names
`penstock up`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.client.gateway_calls import GatewayCalls
from penstock.runtime.data_folder import default_data
from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable

if TYPE_CHECKING:
    from penstock.runtime.tls import Identity, Proof

__all__ = ["Endpoints", "find", "find_gateway"]

SERVICES = ("planner", "scheduler", "analyzer")


@dataclass(frozen=True)
class Endpoints:
    """One gRPC address a service (`host:port`), and what else a client on the same machine may use.

    http: base URL of the gateway; data: the data folder; token: what gRPC calls carry; blobs: folder of the blob store,
    unless it lies in S3: then blobs_url, s3_endpoint and s3_region are as in the settings, and keys the caller's own;
    identity: the certificates that gRPC calls are made with, instead of a token; api_token: what calls of the gateway
    carry.
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
    identity: Identity | None = None
    api_token: str | None = field(default=None, repr=False)

    @property
    def proof(self) -> Proof:
        """How calls show who makes them: certificates where there are some, else the token."""
        return self.identity or self.token


def find(
    *,
    url: str | None = None,
    data: Path | str | None = None,
    api_token: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Endpoints:
    """The endpoints of the server that is meant; api_token: else PENSTOCK_TOKEN, else the data folder's own token.

    Raises Unavailable (code `not_running`), InvalidInput for a bad URL, Unauthenticated or PermissionDenied where the
    gateway does not take the token.
    """
    environment = os.environ if environment is None else environment
    api_token = api_token or environment.get("PENSTOCK_TOKEN") or None
    found = _found(url, data, api_token, environment)
    return replace(found, api_token=api_token) if api_token else found


def find_gateway(*, data: Path | str | None = None, environment: Mapping[str, str] | None = None) -> GatewayCalls:
    """The gateway alone, by the same order: for what it knows by itself, which needs no gRPC and no certificates."""
    environment = os.environ if environment is None else environment
    url = environment.get("PENSTOCK_URL")
    if url and not data and not environment.get("PENSTOCK_DATA"):
        return GatewayCalls(url, environment.get("PENSTOCK_TOKEN"))
    found = find(data=data, environment=environment)
    return GatewayCalls(found.http, found.api_token)


def _found(
    url: str | None, data: Path | str | None, api_token: str | None, environment: Mapping[str, str]
) -> Endpoints:
    if url:
        return _from_url(url, api_token, environment)
    if data:
        return _from_data(Path(data))
    if environment.get("PENSTOCK_DATA"):
        return _from_data(Path(environment["PENSTOCK_DATA"]))
    if environment.get("PENSTOCK_URL"):
        return _from_url(environment["PENSTOCK_URL"], api_token, environment)
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
    except FileNotFoundError:
        raise _not_running(folder) from None
    except OSError as error:
        raise Unavailable(f"{place / 'endpoints.json'} can't be read: {error.strerror}", code="not_running") from error
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Unavailable(
            f"{place / 'endpoints.json'} is damaged: start Penstock again with `penstock up --data {folder}`",
            code="not_running",
        ) from None
    token = _token(place)
    # The folder's token is the first admin's of its own gateway. Never of one that a URL names, which could say any.
    planner, scheduler, analyzer = (addresses[name] for name in SERVICES)
    found = Endpoints(planner, scheduler, analyzer, http=http, data=place, token=token, blobs=blobs, api_token=token)
    return _in_s3(found, told)


def _in_s3(found: Endpoints, told: Mapping[str, object]) -> Endpoints:
    blobs_url, endpoint, region = (str(told.get(name) or "") for name in ("blobs_url", "s3_endpoint", "s3_region"))
    return replace(found, blobs_url=blobs_url, s3_endpoint=endpoint, s3_region=region)


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


def _identity(environment: Mapping[str, str], base: str) -> Identity:
    folder = environment.get("PENSTOCK_TLS__FOLDER")
    if not folder:
        raise InvalidInput(
            f"the Penstock at {base} is called over mutual TLS: set PENSTOCK_TLS__FOLDER to a folder with ca.crt, "
            "tls.crt and tls.key of penstock-client; in a cluster, run it in a pod of the gateway (docs/cluster.md, "
            "The command line)",
            code="tls",
        )
    from penstock.runtime.tls import identity

    return identity(Path(folder).absolute())


def _from_url(url: str, api_token: str | None, environment: Mapping[str, str]) -> Endpoints:
    calls = GatewayCalls(url, api_token)
    told = calls.ask("GET", "/api/v1/endpoints")
    try:
        folder = Path(told["data"]) if told.get("data") else None
        found = Endpoints(
            planner=str(told["planner"]),
            scheduler=str(told["scheduler"]),
            analyzer=str(told["analyzer"]),
            http=calls.url,
            data=folder,
            token=_token(folder) if folder else None,
            blobs=Path(told["blobs"]) if told.get("blobs") else None,
            identity=_identity(environment, calls.url) if told.get("tls") else None,
        )
        return _in_s3(found, told)
    except PenstockError:
        raise
    except (ValueError, KeyError, TypeError):
        raise calls.no_penstock() from None
