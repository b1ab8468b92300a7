"""Programs of the cluster, built from Go modules into a cache that is keyed by what they are built from.

Each folder here is a Go module: `go.mod` names the programs by `tool` lines, `go.sum` holds the hash of every byte that
goes in. What speaks to Kubernetes is all in one of them, `kubernetes`: each library has one version there and is
compiled once, not once for each program. So Helm, kwok and CoreDNS are of releases that go with the client libraries of
our Kubernetes.

MODULES names what is built together, as tiers need it. It lies in CACHE/NAME-KEY/bin, KEY a hash of both files, of the
source of those programs that are our own (./PACKAGE) and of the way of building, so that a change of any builds anew
and an older checkout finds its own. A folder appears by one rename when all its programs are there: half a build is
never taken. One process builds at a time, the others wait until what they want is there.

It may not reach anything but Go's module proxy, and only for modules that `go.sum` names. Where Go is missing, or a
download or compilation fails, BuildFailed says what of and what Go said; nothing is left in the cache then. Go and its
compilers end with the builder, however that ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.tools import group

HERE = Path(__file__).resolve().parent
CACHE = "PEN_CLUSTER_CACHE"
KUBERNETES_VERSION = "1.36.3"
_BUILDING: Mapping[str, str] = {
    "CGO_ENABLED": "0",
    "GOTOOLCHAIN": "local",
    # The linker would throw away what debuggers want; it is not made at all.
    "GOFLAGS": "-mod=readonly -trimpath -gcflags=all=-dwarf=false",
    # Compilers end soon: they collect less often, a tenth less work for more memory.
    "GOGC": "400",
}
_ASKS_AGAIN_SECONDS = 0.5
_STAMP = "k8s.io/component-base/version"


@dataclass(frozen=True, kw_only=True)
class Module:
    """What is built together of one Go module."""

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
        own = [self.source / package for package in self.programs.values() if package.startswith(".")]
        written = [self.source / "go.mod", self.source / "go.sum"]
        written += [path for folder in own for path in sorted(folder.rglob("*.go"))]
        parts = [path.read_bytes() for path in written if path.exists()]
        way = [self.linker_flags, repr(sorted(self.programs.items())), repr(sorted(_BUILDING.items()))]
        return hashlib.sha256(b"\0".join([*parts, *(text.encode() for text in way)])).hexdigest()[:16]


_KUBERNETES = "kubernetes"


def _commands(*names: str) -> Mapping[str, str]:
    return {name: f"k8s.io/kubernetes/cmd/{name}" for name in names}


_STAMPS = {
    f"{_STAMP}.gitVersion": f"v{KUBERNETES_VERSION}",
    f"{_STAMP}.gitMajor": KUBERNETES_VERSION.split(".")[0],
    f"{_STAMP}.gitMinor": KUBERNETES_VERSION.split(".")[1],
}

MODULES: Mapping[str, Module] = {
    module.name: module
    for module in (
        Module(
            name="core",
            folder=_KUBERNETES,
            programs=_commands("kube-apiserver", "kube-controller-manager", "kubectl"),
            stamps=_STAMPS,
        ),
        Module(name="scheduler", folder=_KUBERNETES, programs=_commands("kube-scheduler"), stamps=_STAMPS),
        Module(name="helm", folder=_KUBERNETES, programs={"helm": "helm.sh/helm/v4/cmd/helm"}),
        Module(name="kubelet", folder=_KUBERNETES, programs=_commands("kubelet", "kube-proxy"), stamps=_STAMPS),
        Module(name="coredns", folder=_KUBERNETES, programs={"coredns": "./coredns"}),
        Module(name="probe", folder="probe", programs={"probe": "."}),
        Module(name="s3", folder="versitygw", programs={"versitygw": "github.com/versity/versitygw/cmd/versitygw"}),
        Module(name="score", folder="kube-score", programs={"kube-score": "github.com/zegl/kube-score/cmd/kube-score"}),
        Module(name="kwok", folder=_KUBERNETES, programs={"kwok": "sigs.k8s.io/kwok/cmd/kwok"}),
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
    missing = [module for module in MODULES.values() if module.name in names and not built(module)]
    if missing and shutil.which("go") is None:
        raise BuildFailed(f"no Go here to build {', '.join(module.name for module in missing)}")
    for module in missing:
        with _alone(module, say) as builds:
            if builds:
                _build(module, say)
    return _linked()


@contextmanager
def _alone(module: Module, say: Callable[[str], None]) -> Iterator[bool]:
    """Whether it is to be built, by us and nobody else meanwhile. Of who builds now no more is waited for than this."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / "lock").open("a") as lock:
        waits = False
        while not built(module):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waits:
                    say(f"{module.name}: waiting for another builder")
                waits = True
                time.sleep(_ASKS_AGAIN_SECONDS)
                continue
            # What a killed builder has left: nobody else builds now.
            for half in cache().glob("half-*"):
                shutil.rmtree(half, ignore_errors=True)
            break
        yield not built(module)


def _build(module: Module, say: Callable[[str], None]) -> None:
    half = Path(tempfile.mkdtemp(prefix="half-", dir=cache()))
    try:
        target = half / "bin"
        target.mkdir()
        began, used = time.monotonic(), _cpu_seconds()
        # At once: one is linked while another is still compiled.
        _go(["build", "-ldflags", module.linker_flags, "-o", f"{target}/", *module.programs.values()], module=module)
        if lacking := [name for name in module.programs if not (target / name).is_file()]:
            raise BuildFailed(f"{module.name}: Go built no {', '.join(lacking)}")
        size = sum((target / name).stat().st_size for name in module.programs) / 1e6
        seconds = f"{time.monotonic() - began:.0f} s, {_cpu_seconds() - used:.0f} s of CPU"
        say(f"{', '.join(module.programs)}: built in {seconds}, {size:.0f} MB")
        half.chmod(0o755)
        half.rename(bin_folder(module).parent)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _cpu_seconds() -> float:
    """Of all processes that have ended below this one."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _go(arguments: Sequence[str], *, module: Module) -> None:
    ends = os.pipe()
    with open(ends[0], "rb", 0) as reading, open(ends[1], "wb", 0) as writing:
        # Tests of other tiers may run meanwhile.
        command = [sys.executable, "-I", "-S", group.__file__, str(ends[0]), "nice", "-n", "10", "go", *arguments]
        with subprocess.Popen(
            command,
            cwd=module.source,
            env={**os.environ, **_BUILDING},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=ends[:1],
            start_new_session=True,
        ) as go:
            reading.close()
            try:
                said, _ = go.communicate()
            finally:
                writing.close()
    if go.returncode != 0:
        raise BuildFailed(f"{module.name} can't be built:\n{said[-3000:].strip()}")


def _linked() -> Path:
    """One folder for PATH, of this checkout's set of modules; links alone, so that it may be made again at any time."""
    there = [module for module in MODULES.values() if built(module)]
    key = hashlib.sha256(" ".join(module.key for module in there).encode()).hexdigest()[:16]
    folder = cache() / f"bin-{key}"
    if not folder.is_dir():
        cache().mkdir(parents=True, exist_ok=True)
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
