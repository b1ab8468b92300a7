"""The image under test, made here of Debian's packages and the locked wheels, without a registry.

    built(cache)   the docker archive of this checkout, named NAME: `ctr -n k8s.io images import ARCHIVE`
    lacking()      why none can be built here, one line each

The base is a minimal Debian with Python, by mmdebstrap; the rest is the project's own Dockerfile, through the code of
`make image`. Both lie in CACHE/images, keyed by what went in, so that a change builds anew and nothing else does; the
few that were used last are kept. An archive appears by one rename: half of one is never taken. One process builds,
others wait for it. It needs root and the network, and so runs before any box is entered; what buildah caches lies in
the same folder, which may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.cluster import debian
from tools.image import engines
from tools.image.__main__ import base_digest, provenance

__all__ = ["ARCHIVE", "NAME", "alone", "built", "keep_newest", "key", "lacking"]

NAME = "localhost/penstock:cluster"
ARCHIVE = "PENSTOCK_CLUSTER_IMAGE"
"""Set for a tier that runs the product: the archive's path."""
ROOT = Path(__file__).resolve().parents[2]
CONTEXT = ("Dockerfile", ".dockerignore", "requirements.lock", "pyproject.toml", "README.md", "LICENSE")
FOLDERS = ("penstock", "planner", "scheduler", "worker", "analyzer", "gateway", "tools/image")
"""What .dockerignore lets into the build."""
BASE_PACKAGES = ("python3", "python3-venv", "ca-certificates")
KEPT_ARCHIVES = 3
"""Checkouts that stand side by side take turns: what one is about to load, another's build may not remove."""
MOUNTED = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
"""How this machine reaches its package index; mounted into the build, never copied."""


def lacking() -> list[str]:
    """Why no image can be built here; empty when one can."""
    found = [] if os.geteuid() == 0 else ["an image is built by root (mmdebstrap, chroot)"]
    found += [f"{name} is missing: apt-get install {name}" for name in ("buildah", "mmdebstrap") if not _there(name)]
    return found + debian.lacking()


def key() -> str:
    """Of all that goes into the image but the moment."""
    digest = hashlib.sha256(_base_key().encode())
    for path in _files():
        digest.update(f"{path.relative_to(ROOT)}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def built(cache: Path) -> Path:
    """The archive of this checkout's image. Raises EngineFailed or CalledProcessError when it can't be built."""
    folder = cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        archive = folder / f"penstock-{key()}.tar"
        if not archive.exists():
            with _engine(folder) as engine:
                base = _base(folder, engine)
                engine.build(
                    ROOT,
                    NAME,
                    arguments={"BASE_IMAGE": base, "BASE_DIGEST": base_digest(engine, base), **provenance()},
                    options=["--quiet", *(f"--volume={one}:{one}:ro" for one in MOUNTED if Path(one).exists())],
                )
                engine.save(NAME, archive)
        keep_newest(folder, "penstock-*.tar", archive)
    return archive


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process makes images here at a time; the others wait."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def _engine(folder: Path) -> Iterator[engines.Engine]:
    """buildah with a store of its own, so that nobody's images are touched, and mounts of its own, which go with it
    however it ends. A store serves one lock on one base; what it caches for another would only pile up."""
    store = folder / f"store-{_dependencies_key()}"
    for other in folder.glob("store-*"):
        if other != store:
            shutil.rmtree(other)
    with tempfile.TemporaryDirectory(prefix="pen-buildah-") as run:
        yield engines.Engine(
            name="buildah",
            options=(f"--root={store}", f"--runroot={run}"),
            inside=("unshare", "--mount", "--propagation=private"),
        )


def _base(folder: Path, engine: engines.Engine) -> str:
    """The base image in the engine's store; its name."""
    name = f"localhost/penstock-base:{_base_key()}"
    if not engine.digest(name):
        root = folder / f"base-{_base_key()}.tar"
        if not root.exists():
            debian.bootstrap(root, packages=BASE_PACKAGES)
            keep_newest(folder, "base-*.tar", root)
        with tempfile.TemporaryDirectory(prefix="pen-base-", dir=folder) as context:
            os.link(root, Path(context, "base.tar"))
            Path(context, "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
            engine.build(Path(context), name, arguments={}, options=["--quiet"])
    return name


def _base_key() -> str:
    recipe = repr((debian.SUITE, BASE_PACKAGES, debian.LEFT_OUT, debian.KEPT))
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]


def _dependencies_key() -> str:
    """Of what the layers below our own are made of."""
    lock = (ROOT / "requirements.lock").read_bytes()
    return hashlib.sha256(_base_key().encode() + lock).hexdigest()[:16]


def _files() -> list[Path]:
    found = [ROOT / name for name in CONTEXT]
    for folder in FOLDERS:
        found += [
            path
            for path in (ROOT / folder).rglob("*")
            if path.is_file() and path.suffix != ".pyc" and not {"__pycache__", "node_modules"} & {*path.parts}
        ]
    return sorted(found)


def keep_newest(folder: Path, pattern: str, used: Path) -> None:
    """Removes what was used longest ago, past a few; `used` is used now."""
    os.utime(used)
    for other in sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)[:-KEPT_ARCHIVES]:
        other.unlink()


def _there(name: str) -> bool:
    return shutil.which(name) is not None
