"""S3 that is away, full of refusals or set up wrongly: one sentence, no secret, and well again by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from penstock.runtime.blobs_s3 import S3BlobStore
from penstock.runtime.errors import NotFound, PenstockError, Unavailable
from penstock.runtime.s3 import S3Place
from tests.integration.stores.conftest import MIB, aws, s3_store
from tests.servers.s3 import KEY, SECRET, S3Server
from tests.servers.stack import until


def store_at(folder: Path, url: str, endpoint: str) -> S3BlobStore:
    return S3BlobStore(S3Place.of(url, endpoint=endpoint, region="us-east-1"), folder, cache_bytes=MIB)


def troubles(store: S3BlobStore) -> list[PenstockError]:
    """What each way of using it says."""
    told = []
    for ask in (
        store.check_writing,
        store.check,
        lambda: store.put(b"x"),
        lambda: store.get("0" * 64),
        lambda: store.path("0" * 64),
        lambda: store.written_ns("0" * 64),
        lambda: store.remove("0" * 64),
    ):
        with pytest.raises(PenstockError) as caught:
            ask()
        told.append(caught.value)
    return told


def test_a_bucket_that_is_not_there(s3_server: S3Server, s3_keys: None, tmp_path: Path) -> None:
    for told in troubles(store_at(tmp_path, "s3://nowhere/x", s3_server.url)):
        assert isinstance(told, Unavailable)
        assert "there is no such bucket" in told.message
        assert f"s3://nowhere/x at {s3_server.url}" in told.message
        assert told.cause == "its bucket does not exist"


@pytest.mark.parametrize(("key", "secret"), [("another-key", SECRET), (KEY, "wrong-secret-91")], ids=["key", "secret"])
def test_keys_that_are_refused_and_never_shown(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, secret: str
) -> None:
    for name, value in aws(key, secret).items():
        monkeypatch.setenv(name, value)
    for told in troubles(store_at(tmp_path, f"s3://{s3_server.bucket}", s3_server.url)):
        assert isinstance(told, Unavailable)
        assert told.cause == "its keys are refused"
        assert key not in told.message
        assert secret not in told.message
        assert "\n" not in told.message


def test_no_keys_at_all(s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in aws(KEY, SECRET):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    for told in troubles(store_at(tmp_path, f"s3://{s3_server.bucket}", s3_server.url)):
        assert isinstance(told, Unavailable)
        assert "AWS_ACCESS_KEY_ID" in told.message


def test_a_server_that_goes_and_comes_back_needs_no_restart_of_ours(
    own_s3: S3Server, s3_keys: None, tmp_path: Path
) -> None:
    store = s3_store(own_s3, tmp_path / "blobs")
    here = store.put(b"here")
    elsewhere = store.put(b"elsewhere")
    path = store.path(here.sha256)
    own_s3.kill()
    for told in troubles(store):
        assert isinstance(told, Unavailable)
        assert told.cause == "it does not answer"
        assert told.code == "blob_store_unavailable"
    assert store.path(here.sha256) == path, "what the cache has is served"
    with pytest.raises(Unavailable):
        store.path(elsewhere.sha256)
    own_s3.start()
    store.check()
    assert store.get(elsewhere.sha256) == b"elsewhere"
    assert store.path(elsewhere.sha256).read_bytes() == b"elsewhere"
    store.put(b"more")


def test_a_writer_that_is_killed_leaves_nothing_to_see_and_its_parts_go(
    s3_server: S3Server, s3_keys: None, tmp_path: Path
) -> None:
    store = s3_store(s3_server, tmp_path / "blobs")
    place = store.bucket.place
    program = """
import sys
from pathlib import Path
from penstock.runtime import s3
from penstock.runtime.blobs_s3 import S3BlobStore
s3.PARTS = 1
url, endpoint, folder = sys.argv[1:]
store = S3BlobStore(s3.S3Place.of(url, endpoint=endpoint, region="us-east-1"), Path(folder), cache_bytes=1 << 23)
writer = store.writer()
for _ in range(100):
    writer.write(b"x" * (1 << 22))
print(writer.finish().sha256, flush=True)
store.keep([writer])
"""
    url = f"s3://{place.bucket}/{place.prefix}"
    arguments = [sys.executable, "-c", program, url, s3_server.url, str(tmp_path / "blobs")]

    def parts() -> list[Path]:
        return list(s3_server.folder.glob(f"{s3_server.bucket}/.sgwtmp/multipart/*/*/*"))

    assert parts() == []
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        until("a part was written", parts, pause=0.001)
        os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(NotFound):
        store.get(name)
    assert parts()
    assert store.bucket.end_uploads(datetime.now(UTC) - timedelta(hours=1)) == 0, "one that may go on stays"
    assert store.bucket.end_uploads(datetime.now(UTC) + timedelta(hours=1)) == 1
    assert parts() == []
