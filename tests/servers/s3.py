"""A real S3 server over a folder: versitygw, built of its Go module on first use, or taken from the cache of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from penstock.supervisor import watcher
from tests.cluster import tools
from tests.servers.ports import free_port

__all__ = ["KEY", "SECRET", "S3Server", "server_program"]

KEY, SECRET = "penstock-key", "penstock-secret-7c1f"
START_SECONDS = 30.0


def server_program() -> Path | str:
    """The program, built as the cluster's tests build it, or why it can't be had here."""
    try:
        tools.build(["s3"], say=lambda _: None)
    except tools.BuildFailed as error:
        return str(error)
    return tools.program("versitygw")


class S3Server:
    """`url` of its HTTP, `bucket` a bucket that is there; `kill` and `start` for tests of its loss."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self.folder = folder / "buckets"
        self._beside = folder / "of-server"
        for each in (self.folder, self._beside):
            each.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.bucket = "penstock"
        (self.folder / self.bucket).mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        # Under the supervisor's own watcher: a test run that is killed leaves no server behind.
        reading, self._lifeline = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", watcher.__file__, str(reading)),
                *(str(self._program), "--port", f"127.0.0.1:{self.port}", "--quiet"),
                *("posix", "--sidecar", str(self._beside), str(self.folder)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
            pass_fds=(reading,),
        )
        os.close(reading)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, f"versitygw did not answer in {START_SECONDS:g} s"
            assert self._process.poll() is None, "versitygw has ended"
            time.sleep(0.02)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(5)
        os.close(self._lifeline)
        deadline = time.monotonic() + 5
        while self._answers() and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def object(self, key: str, bucket: str = "") -> Path:
        """Where the server keeps it."""
        return self.folder / (bucket or self.bucket) / key

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.url, timeout=2).close()
        except urllib.error.HTTPError:
            return True  # it wants keys
        except OSError:
            return False
        return True
