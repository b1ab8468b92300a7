"""`make image`: which engine it takes, what it says when there is none, and how a saved image is read and weighed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tools.image import __main__ as command
from tools.image import archive, engines, weights

REST_OF_PATH = "/usr/bin:/bin"
DIGEST = f"sha256:{'b' * 64}"


def program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_without_an_engine_one_sentence_names_all_three(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert all(f"{name} is not on PATH" in told for name in engines.NAMES)


def test_an_engine_that_does_not_answer_is_passed_over_in_its_own_words(path: Path) -> None:
    program(path, "docker", "echo 'cannot reach the daemon' >&2; exit 1")
    program(path, "buildah", "echo buildah version 1")
    assert engines.found().name == "buildah"
    (path / "buildah").unlink()
    with pytest.raises(engines.EngineFailed, match="docker is there but can't be used: cannot reach the daemon"):
        engines.found()


def test_a_build_that_fails_ends_with_one_sentence_and_leaves_no_archive(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program(path, "docker", '[ "$1" = version ]')
    monkeypatch.setattr(command, "OUT", tmp_path / "out")
    assert command.main(["--base", f"base@{DIGEST}"]) == 1
    assert "docker build failed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_base_is_pinned_or_on_this_machine(path: Path) -> None:
    program(path, "docker", '[ "$5" = here ] && echo here@' + DIGEST)
    engine = engines.Engine(name="docker")
    assert command.base_digest(engine, f"python:3.11@{DIGEST}") == DIGEST
    assert command.base_digest(engine, "here") == DIGEST
    with pytest.raises(engines.EngineFailed, match="neither pinned nor on this machine"):
        command.base_digest(engine, "elsewhere")
    with pytest.raises(engines.EngineFailed, match="64 hexadecimal digits"):
        command.base_digest(engine, "python:3.11@sha256:abc")


def test_the_base_of_the_dockerfile_is_pinned() -> None:
    assert command.base_digest(engines.Engine(name="docker"), command.pinned_base()).startswith("sha256:")


@pytest.mark.parametrize(
    ("remote", "url"),
    [
        ("https://example.org/team/penstock.git", "https://example.org/team/penstock"),
        ("https://name:secret@example.org/team/penstock", "https://example.org/team/penstock"),
        ("git@example.org:team/penstock.git", "https://example.org/team/penstock"),
        ("ssh://git@example.org:22/team/penstock.git", "https://example.org/team/penstock"),
        ("/srv/git/penstock", ""),
        ("file:///srv/git/penstock", ""),
        ("", ""),
    ],
)
def test_the_source_label_tells_no_login_and_no_folder(remote: str, url: str) -> None:
    assert command.public_url(remote) == url


def test_the_revision_says_when_it_is_not_what_was_built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=tmp_path, check=True)

    (tmp_path / "penstock").mkdir()
    (tmp_path / "penstock/__init__.py").write_text('__version__ = "1.2"\n')
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    clean = command.provenance()
    assert (len(clean["REVISION"]), clean["VERSION"], clean["SOURCE"]) == (40, "1.2", "unknown")
    assert clean["CREATED"] == "1970-01-01T00:00:00Z"
    (tmp_path / "new").write_text("")
    assert command.provenance()["REVISION"] == f"{clean['REVISION']}-changed"


SITE = "opt/penstock/venv/lib/python3.11/site-packages"
NUMPY_RECORD = "numpy/__init__.py,,\nnumpy-2.0.dist-info/RECORD,,\n../../../bin/f2py,,\n"
OUR_RECORD = f"/{SITE}/planner/__init__.py,,\n/{SITE}/penstock-0.1.0.dist-info/RECORD,,\n"


def layer(members: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o644
            tar.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """An image of three layers, as docker saves it; the second takes a file and a folder of the first away."""
    layers = [
        layer({"./etc/base": "b" * 1000, "old/one": "x" * 50, "old/two": "x" * 50, "gone": "x"}),
        layer(
            {
                "old/.wh..wh..opq": "",
                "old/three": "x" * 5,
                ".wh.gone": "",
                f"{SITE}/numpy/__init__.py": "n" * 300,
                f"{SITE}/numpy/__pycache__/__init__.cpython-311.pyc": "n" * 200,
                f"{SITE}/numpy-2.0.dist-info/RECORD": NUMPY_RECORD,
                "opt/penstock/venv/bin/f2py": "n" * 10,
                "opt/penstock/venv/pyvenv.cfg": "e" * 7,
            }
        ),
        layer(
            {
                f"{SITE}/planner/__init__.py": "p" * 400,
                f"{SITE}/penstock-0.1.0.dist-info/RECORD": OUR_RECORD,
                "opt/penstock/sbom.cdx.json": "{}",
            }
        ),
    ]
    config = {"config": {"Labels": {"a": "b"}, "User": "65532:65532"}}
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as tar:
        manifest = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": [f"{n}.tar" for n in range(3)]}]
        parts = {"manifest.json": json.dumps(manifest).encode(), "c.json": json.dumps(config).encode()}
        for name, content in {**parts, **{f"{n}.tar": one for n, one in enumerate(layers)}}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_saved_image_is_read_as_a_container_sees_it(saved: Path) -> None:
    image = archive.opened(saved)
    assert {"etc/base", "old/three", "opt/penstock/sbom.cdx.json"} <= image.files.keys()
    assert not {"old/one", "old/two", "gone"} & image.files.keys()
    assert image.labels == {"a": "b"}
    assert image.read("old/three", "etc/base") == {"old/three": b"x" * 5, "etc/base": b"b" * 1000}


def test_each_file_weighs_for_the_package_that_has_it(saved: Path) -> None:
    sizes = weights.by_package(archive.opened(saved))
    assert sizes["numpy"] == 300 + 200 + 10 + len(NUMPY_RECORD)
    assert sizes["penstock"] == 400 + len(OUR_RECORD)
    assert sizes[weights.BASE] == 1000 + 5
    assert sizes[weights.REST] == 7 + 2


def test_the_table_names_layers_by_what_they_hold_and_adds_them_up(saved: Path) -> None:
    image = archive.opened(saved)
    layers = image.layers()
    with tarfile.open(saved) as tar:
        sizes = [info.size for info in tar.getmembers() if info.name.endswith(".tar")]
    assert [one.unpacked_bytes for one in layers] == sizes
    assert all(0 < one.packed_bytes < one.unpacked_bytes for one in layers)
    assert weights.layer_names(image) == [weights.BASE, "(dependencies)", weights.OURS]
    assert weights.table(image, layers)[-1].split()[0] == "image"


def test_what_is_no_image_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "other.tar"
    path.write_bytes(layer({"a": "b"}))
    with pytest.raises(ValueError, match=r"other\.tar is no archive of one image"):
        archive.opened(path)


def test_description_writes_the_bill_of_materials_that_lies_in_the_image(saved: Path, tmp_path: Path) -> None:
    lines = command.describe(saved, tmp_path / "out")
    assert (tmp_path / "out/sbom.cdx.json").read_text() == "{}"
    assert (tmp_path / "out/weights.txt").read_text().splitlines() == lines


def test_it_runs_on_the_standard_library_alone() -> None:
    """`make image` needs no set-up, and the base image has nothing else."""
    ended = subprocess.run(
        ["python3", "-S", "-m", "tools.image", "--help"],
        cwd=command.ROOT,
        capture_output=True,
        text=True,
        env={"PATH": os.environ.get("PATH", REST_OF_PATH)},
    )
    assert ended.returncode == 0, ended.stderr
