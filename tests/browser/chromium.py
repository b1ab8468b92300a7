"""A real browser for tests: Chromium driven over its debugging pipe, with nothing but the standard library.

It is the machine's own, or Debian's, which is unpacked for it. Tests that need it are skipped where neither is.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tests.servers.debian import debian_program

__all__ = ["Chromium", "found"]

ANSWER_SECONDS = 20.0


@cache
def found() -> Path | str:
    """The browser, or why there is none."""
    here = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    return next((Path(one) for one in here if one), None) or debian_program("chromium")


class Chromium:
    """One page. `console` has what it logged, errors and refused content among it."""

    def __init__(self, folder: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        binary = found()
        assert isinstance(binary, Path), binary
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()

        def wire() -> None:
            # The browser reads commands from 3 and answers on 4; higher numbers first, so that neither is overwritten.
            reading, writing = os.dup(to_browser), os.dup(from_browser)
            high = [os.dup2(reading, 63), os.dup2(writing, 64)]
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self._process = subprocess.Popen(
            [
                binary,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--no-first-run",
                "--remote-debugging-pipe",
                f"--user-data-dir={folder / 'profile'}",
                f"--window-size={width},{height}",
                "about:blank",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=wire,
            close_fds=False,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._next = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self.console: list[str] = []
        self._loaded = 0
        targets = self._send("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self._send("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    _session: str | None = None

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._send(method, **parameters)

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._next += 1
        number = self._next
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_SECONDS
        while number not in self._answers:
            assert time.monotonic() < deadline, f"the browser did not answer {method}"
            self._read(0.5)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self, seconds: float) -> None:
        ready, _, _ = select.select([self._in], [], [], seconds)
        if not ready:
            return
        self._buffer += os.read(self._in, 1 << 20)
        *whole, self._buffer = self._buffer.split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            elif message["method"] == "Page.loadEventFired":
                self._loaded += 1
            elif message["method"] == "Runtime.exceptionThrown":
                self.console.append(json.dumps(message["params"]["exceptionDetails"]))
            elif message["method"] == "Log.entryAdded":
                self.console.append(message["params"]["entry"]["text"])

    def open(self, url: str) -> None:
        before = self._loaded
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._loaded == before:
            assert time.monotonic() < deadline, f"{url} did not load"
            self._read(0.5)

    def run(self, script: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str, *, seconds: float = 15.0) -> Any:
        """Asks until the expression is true."""
        return _until(lambda: self.run(script), script, seconds)

    def picture(self, path: Path) -> None:
        """The page as it looks, as a PNG: for people."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def choose(self, selector: str, *files: Path) -> None:
        """Puts files into a file field, as a person's choice."""
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def drop(self, *files: Path) -> None:
        """Drops files and folders onto the middle of the page's drop zone."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=400, y=180, data=data)

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        os.close(self._out)
        os.close(self._in)


def _until(ask: Callable[[], Any], what: str, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return answer
