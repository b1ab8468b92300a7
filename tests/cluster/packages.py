"""Debian's packages for the cluster: `python -m tests.cluster.packages [install]` names what lacks, or installs it.

A package counts as there when its program is, so that a machine that has it otherwise needs no Debian. Nothing that is
installed is upgraded. Only tests of the cluster need these; no other target installs anything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

PROGRAMS: Mapping[str, str] = {
    "util-linux": "unshare",
    "iproute2": "ip",
    "openssl": "openssl",
    "etcd-server": "etcd",
    "containerd": "containerd",
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "iptables": "iptables",
    "nftables": "nft",
    "conntrack": "conntrack",
}
"""Package -> a program of it."""
_INSTALL = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", "--no-upgrade")
_WAIT = ("-o", "DPkg::Lock::Timeout=300")


def search_path() -> str:
    """PATH with the folders of a machine's administration, where half of these live."""
    return os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def lacking(packages: Iterable[str]) -> list[str]:
    """Those whose program is not there."""
    return [name for name in packages if shutil.which(PROGRAMS[name], path=search_path()) is None]


def install(packages: Sequence[str]) -> str | None:
    """Installs by apt-get; why it could not, or None."""
    if not packages:
        return None
    if os.geteuid() != 0:
        return "only root installs packages"
    if shutil.which("apt-get") is None:
        return "no apt-get here"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for attempt in (False, True):
        # Lists of packages may be missing or old: asked for only when it does not go without.
        if attempt:
            subprocess.run(["apt-get", *_WAIT, "update", "-qq"], env=environment, check=False)
        done = subprocess.run(
            [*_INSTALL, *_WAIT, *packages], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return None
    return done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"apt-get ended with {done.returncode}"


def main(words: list[str]) -> int:
    missing = lacking(PROGRAMS)
    if words == ["install"] and missing:
        failed = install(missing)
        if failed:
            print(f"packages: {', '.join(missing)} can't be installed: {failed}", file=sys.stderr)
            return 1
        missing = lacking(PROGRAMS)
    for name in missing:
        print(f"packages: {name} is not there (no {Path(PROGRAMS[name]).name})")
    return 1 if missing else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
