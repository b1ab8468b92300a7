"""Programs of the cluster, built from Go modules into a cache that is keyed by what they are built from.

Each folder here is a module of its own (their wishes for client libraries do not fit into one): `go.mod` names the
programs by `tool` lines, `go.sum` holds the hash of every byte that goes in. What is built lies in CACHE/NAME-KEY/bin,
KEY a hash of both files, of a program's own source and of the way of building, so that a change of any builds anew and
an older checkout finds its own. A folder appears by one rename when all its programs are there: half a build is never
taken. One process builds at a time, the others wait for it and find it done.

It may not reach anything but Go's module proxy, and only for modules that `go.sum` names. Where Go is missing, or a
download or compilation fails, BuildFailed says which program and what Go said; nothing is left in the cache then.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = "PENSTOCK_CLUSTER_CACHE"
KUBERNETES_VERSION = "1.36.3"
_BUILDING: Mapping[str, str] = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly -trimpath"}
_STAMP = "k8s.io/component-base/version"


@dataclass(frozen=True, kw_only=True)
class Module:
    """One Go module and what is built of it."""

    name: str
    folder: str
    programs: Mapping[str, str]
    """Name of the program -> its package."""
    stamps: Mapping[str, str] = field(default_factory=dict)
    """Variables that the linker sets, as a program tells its version by them."""

    @property
    def source(self) -> Path:
        return HERE / self.folder

    @property
    def linker_flags(self) -> str:
        return " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in self.stamps.items())])

    @property
    def key(self) -> str:
        written = [self.source / "go.mod", self.source / "go.sum", *sorted(self.source.glob("*.go"))]
        parts = [path.read_bytes() for path in written if path.exists()]
        way = [self.linker_flags, repr(sorted(self.programs.items())), repr(sorted(_BUILDING.items()))]
        return hashlib.sha256(b"\0".join([*parts, *(text.encode() for text in way)])).hexdigest()[:16]


_COMMAND = "k8s.io/kubernetes/cmd/"
_KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl", "kubelet", "kube-proxy")

MODULES: Mapping[str, Module] = {
    module.name: module
    for module in (
        Module(
            name="core",
            folder="kubernetes",
            programs={name: _COMMAND + name for name in _KUBERNETES},
            stamps={
                f"{_STAMP}.gitVersion": f"v{KUBERNETES_VERSION}",
                f"{_STAMP}.gitMajor": KUBERNETES_VERSION.split(".")[0],
                f"{_STAMP}.gitMinor": KUBERNETES_VERSION.split(".")[1],
            },
        ),
        Module(name="probe", folder="probe", programs={"probe": "."}),
        Module(name="helm", folder="helm", programs={"helm": "helm.sh/helm/v4/cmd/helm"}),
        Module(name="kwok", folder="kwok", programs={"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
        Module(name="coredns", folder="coredns", programs={"coredns": "github.com/coredns/coredns"}),
        Module(name="score", folder="kube-score", programs={"kube-score": "github.com/zegl/kube-score/cmd/kube-score"}),
        Module(name="s3", folder="versitygw", programs={"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
    )
}
"""In the order in which `all` builds them: what most tests need comes first."""


class BuildFailed(Exception):
    """A program can't be built here; the message says which, and why."""


def cache() -> Path:
    """Where built programs lie, on this machine, for all checkouts."""
    return Path(os.environ.get(CACHE) or Path.home() / ".cache" / "penstock-cluster").resolve()


def bin_folder(module: Module) -> Path:
    return cache() / f"{module.name}-{module.key}" / "bin"


def built(module: Module) -> bool:
    return bin_folder(module).is_dir()


def program(name: str) -> Path:
    """Path of a program that has been built. Raises BuildFailed, naming what would build it."""
    for module in MODULES.values():
        if name in module.programs:
            path = bin_folder(module) / name
            if path.is_file():
                return path
            raise BuildFailed(f"{name} is not built: python -m tests.cluster.tools {module.name}")
    raise KeyError(name)


def build(names: Sequence[str], *, say: Callable[[str], None]) -> Path:
    """Builds what is not in the cache; the folder with links to all that the cache holds for this checkout.

    Raises BuildFailed.
    """
    missing = [MODULES[name] for name in names if not built(MODULES[name])]
    if missing and shutil.which("go") is None:
        raise BuildFailed(f"no Go here to build {', '.join(module.name for module in missing)}")
    for module in missing:
        with _alone(say):
            if not built(module):
                _build(module, say)
    return _linked()


@contextmanager
def _alone(say: Callable[[str], None]) -> Iterator[None]:
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another builder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        # What a killed builder has left: nobody else builds now.
        for half in cache().glob("half-*"):
            shutil.rmtree(half, ignore_errors=True)
        yield


def _build(module: Module, say: Callable[[str], None]) -> None:
    half = Path(tempfile.mkdtemp(prefix="half-", dir=cache()))
    try:
        target = half / "bin"
        target.mkdir()
        for name, package in module.programs.items():
            began = time.monotonic()
            _go(["build", "-ldflags", module.linker_flags, "-o", str(target / name), package], module=module, name=name)
            size = (target / name).stat().st_size / 1e6
            say(f"{name}: built in {time.monotonic() - began:.0f} s, {size:.0f} MB")
        half.rename(bin_folder(module).parent)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _go(arguments: Sequence[str], *, module: Module, name: str) -> None:
    done = subprocess.run(
        ["go", *arguments],
        cwd=module.source,
        env={**os.environ, **_BUILDING},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BuildFailed(f"{name} can't be built:\n{done.stdout[-3000:].strip()}")


def _linked() -> Path:
    """One folder for PATH, of this checkout's set of modules; links alone, so that it may be made again at any time."""
    there = [module for module in MODULES.values() if built(module)]
    key = hashlib.sha256(" ".join(module.key for module in there).encode()).hexdigest()[:16]
    folder = cache() / f"bin-{key}"
    if not folder.is_dir():
        half = Path(tempfile.mkdtemp(prefix="links-", dir=cache()))
        for module in there:
            for name in module.programs:
                (half / name).symlink_to(bin_folder(module) / name)
        half.chmod(0o755)
        try:
            half.rename(folder)
        except OSError:
            # Another process was faster with the same links.
            shutil.rmtree(half)
    return folder
