"""The tail of a pod's log: what it wrote, never what a kubelet says in its place."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.backends.kubernetes.api import Api


class Answering(Api):
    """Has the answer at hand."""

    def __init__(self, data: bytes) -> None:
        super().__init__("workers", None)
        self._data = data

    def _request(self, *arguments: Any, **more: Any) -> Any:
        return SimpleNamespace(data=self._data)


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        (b'{"event": "takes work"}\n', b'work"}\n'),
        (b"failed to try resolving symlinks in path /var/log/pods/x/0.log: no such file or directory", b""),
        (b"unable to retrieve container logs for containerd://1a2b", b""),
    ],
    ids=["its-own", "removed-file", "removed-container"],
)
def test_a_log_that_its_node_has_removed_already_is_none(answer: bytes, kept: bytes) -> None:
    api = Answering(answer)
    assert api.log_tail("pen-default-0", 7) == kept
    api.close()
