"""Where the operator's kubeconfig leads to no cluster, whatever is wrong with it, that is one line and no trace."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from penstock.cli.cluster import _reach
from penstock.doctor.kube import Away, Kube
from penstock.doctor.place import Place, Release


@pytest.mark.parametrize(
    "text", [b"", b"clusters: [", b"just text", b"[1, 2]", b"clusters: 3", b"\xff\xfe\x00", b"current-context: a"]
)
def test_a_kubeconfig_that_cannot_be_read_is_told_in_one_line(text: bytes, tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_bytes(text)
    with pytest.raises(Away) as caught:
        Kube(kubeconfig=file)
    assert re.fullmatch(r"(no kubeconfig leads to a cluster|the kubeconfig can't be read): \S.*", str(caught.value))


def test_a_gateway_that_is_named_and_does_not_answer_is_not_mended_by_another_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PENSTOCK_URL", raising=False)
    assert _reach(Place()) == "penstock up"
    monkeypatch.setenv("PENSTOCK_URL", "http://127.0.0.1:1")
    assert _reach(Place()).startswith("export PENSTOCK_URL=")
    assert "port-forward service/" in _reach(Place())
    assert "kubectl -n batch port-forward service/pen-gateway" in _reach(Place(Release("pen", "batch", "pen-workers")))
