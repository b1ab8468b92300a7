"""Redis and PostgreSQL as images, of Debian's packages, under the names that examples/cluster gives them.

    built(cache)   one docker archive with both names: `ctr -n k8s.io images import ARCHIVE`

They stand in for the projects' own images, which come from a registry that is not at hand: users and folders are as
theirs, and so is what the entry does with POSTGRES_USER, POSTGRES_PASSWORD and POSTGRES_DB when the folder is empty.
PostgreSQL is Debian's 15, without its compiler of queries. Made outside of a box, kept in CACHE/store-images by what
went in.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.cluster import debian
from tests.cluster.images import alone, keep_newest
from tests.cluster.programs.images import layer_of, write

__all__ = ["ARCHIVE", "NAMES", "built"]

ARCHIVE = "PENSTOCK_CLUSTER_STORE_IMAGES"
"""Set for a tier that runs the product: the archive's path."""
NAMES = ("docker.io/library/redis:7-bookworm", "docker.io/library/postgres:16-bookworm")
STOP_SIGNAL = "SIGINT"
"""As that of PostgreSQL's own image: on SIGTERM it would wait until nobody is connected."""
_PACKAGES = ("redis-server", "postgresql-15")
_LEFT_OUT = ("/usr/lib/x86_64-linux-gnu/libLLVM*", "/usr/lib/llvm*/*", "/usr/lib/postgresql/*/lib/bitcode/*")
_HOOKS = (
    '--essential-hook=mkdir -p "$1"/etc/postgresql-common && '
    'echo create_main_cluster=false > "$1"/etc/postgresql-common/createcluster.conf',
    '--customize-hook=echo "store:x:999:999::/data:/bin/sh" >> "$1"/etc/passwd && '
    'echo "store:x:999:" >> "$1"/etc/group && rm -rf "$1"/var/cache/apt "$1"/var/lib/apt/lists',
)
_BIN = "/usr/lib/postgresql/15/bin"
_ENTRY = """#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    umask 077
    printf %s "$POSTGRES_PASSWORD" > /tmp/password
    initdb -D "$PGDATA.new" -U "$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 \\
        --no-locale --encoding=UTF8 > /dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA.new/pg_hba.conf"
    echo "CREATE DATABASE \\"$POSTGRES_DB\\";" | postgres --single -D "$PGDATA.new" postgres > /dev/null
    mv "$PGDATA.new" "$PGDATA"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' "$@"
"""


def built(cache: Path) -> Path:
    """Raises CalledProcessError when it can't be made."""
    folder = cache / "store-images"
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        archive = folder / f"stores-{_key()}.tar"
        if not archive.exists():
            root = folder / f"files-{_key()}.tar"
            debian.bootstrap(root, packages=_PACKAGES, left_out=_LEFT_OUT, hooks=_HOOKS)
            entry = layer_of({"usr/local/bin/docker-entrypoint.sh": _ENTRY.encode()})
            config = {
                "Entrypoint": ["docker-entrypoint.sh"],
                "Env": [f"PATH={_BIN}:/usr/local/bin:/usr/bin:/bin"],
                "User": "999:999",
                "WorkingDir": "/",
                "StopSignal": STOP_SIGNAL,
            }
            part = write(archive.with_suffix(".part"), layers=[root, entry], names=NAMES, config=config)
            part.rename(archive)
            root.unlink()
        keep_newest(folder, "stores-*.tar", archive)
    return archive


def _key() -> str:
    recipe = repr(
        (debian.SUITE, debian.LEFT_OUT, debian.KEPT, NAMES, _PACKAGES, _LEFT_OUT, _HOOKS, _BIN, _ENTRY, STOP_SIGNAL)
    )
    return hashlib.sha256(recipe.encode()).hexdigest()[:16]
