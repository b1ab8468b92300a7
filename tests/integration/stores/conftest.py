"""A real S3 server, its keys in the environment of the tests, and a blob store of each kind."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.runtime.blobs import BlobStore
from penstock.runtime.blobs_s3 import S3BlobStore
from penstock.runtime.s3 import S3Place
from tests.servers.s3 import KEY, SECRET, S3Server, server_program

MIB = 1 << 20
BUILD_SECONDS = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whichever of them is first builds the server: some minutes, where nothing of it is there and all cores work."""
    for item in items:
        if "s3_program" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS))


@pytest.fixture(scope="session")
def s3_program() -> Path:
    found = server_program()
    if isinstance(found, str):
        if os.environ.get("PEN_CI"):
            pytest.fail(found)
        pytest.skip(found)
    return found


@pytest.fixture(scope="session")
def s3_server(s3_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One for the session; tests that kill it make their own."""
    server = S3Server(s3_program, tmp_path_factory.mktemp("s3"))
    yield server
    server.stop()


@pytest.fixture
def own_s3(s3_program: Path, tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(s3_program, tmp_path / "s3")
    yield server
    server.stop()


@pytest.fixture
def s3_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in aws(KEY, SECRET).items():
        monkeypatch.setenv(name, value)


def aws(key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def s3_store(server: S3Server, folder: Path, *, prefix: str = "", cache_bytes: int = 64 * MIB) -> S3BlobStore:
    url = f"s3://{server.bucket}/{prefix or secrets.token_hex(4)}"
    return S3BlobStore(S3Place.of(url, endpoint=server.url, region="us-east-1"), folder, cache_bytes=cache_bytes)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """An empty store of each kind: the test runs twice."""
    if request.param == "folder":
        return BlobStore(tmp_path / "blobs")
    request.getfixturevalue("s3_keys")
    return s3_store(request.getfixturevalue("s3_server"), tmp_path / "blobs")
