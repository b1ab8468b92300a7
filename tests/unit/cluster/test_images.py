"""Archives of images: what is removed, and how the ones are put together that no engine makes."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path

from tests.cluster.images import KEPT_ARCHIVES, keep_newest
from tests.cluster.programs.images import layer_of, write


def test_the_few_archives_that_were_used_last_stay(tmp_path: Path) -> None:
    archives = [tmp_path / f"penstock-{number}.tar" for number in range(KEPT_ARCHIVES + 2)]
    for age, path in enumerate(archives):
        path.touch()
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    oldest = archives[-1]
    keep_newest(tmp_path, "penstock-*.tar", oldest)
    assert set(tmp_path.iterdir()) == {oldest, *archives[: KEPT_ARCHIVES - 1]}


def test_an_archive_has_its_layers_in_order_under_all_names(tmp_path: Path) -> None:
    lower = tmp_path / "files.tar"
    lower.write_bytes(layer_of({"bin/one": b"1"}))
    upper = layer_of({"bin/two": b"2"})
    names = ["localhost/a:1", "localhost/b:1"]
    target = write(tmp_path / "image.tar", layers=[lower, upper], names=names, config={"User": "1:1"})
    with tarfile.open(target) as tar:
        read = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    (manifest,) = json.loads(read["manifest.json"])
    assert manifest["RepoTags"] == names
    config = json.loads(read[manifest["Config"]])
    layers = [read[name] for name in manifest["Layers"]]
    assert layers == [lower.read_bytes(), upper]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    assert config["config"]["User"] == "1:1"
