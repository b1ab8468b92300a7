"""Makes `.venv` from the hashed lock and puts `penstock` into it: `python3 tools/setup.py runtime|dev`.

Standard library only, since it runs before anything is installed; quick when there is nothing to do (a stamp holds a
hash of all that the result depends on). It refuses, in one line, a Python that is too old or has no venv, and an
environment in which another distribution provides one of our packages: imports would then be a matter of luck. That
is looked at each time, since a package may come after set-up.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)
LOCKS = {"runtime": "requirements.lock", "dev": "requirements-dev.lock"}
"""The dev lock holds the runtime lock's pins too."""

FOREIGN_CHECK = """
import importlib.metadata as metadata, re
ours = {"penstock", "planner", "scheduler", "worker", "analyzer", "gateway"}
for name, owners in metadata.packages_distributions().items():
    if name in ours:
        for owner in sorted({re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} - {"penstock"}):
            print(name, owner)
"""


def say(text: str) -> None:
    # Not on standard output: that of `make up` belongs to its one line.
    print(f"setup: {text}", file=sys.stderr, flush=True)


def give_up(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)
    raise SystemExit(1)


def check_python() -> None:
    here = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        give_up(f"Python {wanted} or newer is needed, this is {here}: try `make PYTHON=python{wanted} …`")
    try:
        import ensurepip
        import venv

        assert ensurepip.version()
        assert venv
    except (ImportError, AssertionError):
        give_up(f"Python {here} has no venv module: on Debian, `apt install python3-venv`, then again")


def fingerprint(kind: str) -> str:
    """What the environment depends on, as a hash: a changed lock, project file, Python or place means set-up."""
    digest = hashlib.sha256(f"{sys.version_info[:2]} {ROOT} {kind}".encode())
    for name in (LOCKS[kind], "pyproject.toml", "tools/setup.py"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def stamp(kind: str) -> Path:
    return VENV / f".penstock-{kind}"


def done(kind: str) -> bool:
    path = stamp(kind)
    return PYTHON.exists() and path.exists() and path.read_text() == fingerprint(kind)


def run(*arguments: str) -> str:
    """Runs the environment's Python, deaf to PYTHONPATH and the like (-I); its output, or the end of us."""
    result = subprocess.run(
        [str(PYTHON), "-I", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ.copy()
    )
    if result.returncode:
        print(result.stdout[-4000:], result.stderr[-4000:], sep="\n", file=sys.stderr)
        give_up(f"failed: python {' '.join(arguments[:3])} …")
    return result.stdout


def usable() -> bool:
    """An environment that was moved here, or whose Python was replaced, does not count."""
    if not PYTHON.exists():
        return False
    asked = "import sys; print(sys.prefix, *sys.version_info[:2])"
    result = subprocess.run([str(PYTHON), "-I", "-c", asked], capture_output=True, text=True, check=False)
    expected = f"{VENV} {sys.version_info[0]} {sys.version_info[1]}"
    return result.returncode == 0 and result.stdout.strip() == expected


def refuse_foreign() -> None:
    foreign = [line.split() for line in run("-c", FOREIGN_CHECK).splitlines()]
    if foreign:
        name, owner = foreign[0]
        give_up(
            f"the environment {VENV.name} has another distribution, {owner!r}, that provides our package {name!r}: "
            f"remove it ({VENV.name}/bin/python -m pip uninstall {owner}) or delete {VENV.name}, then again"
        )


def main(kind: str) -> None:
    if kind not in LOCKS:
        give_up(f"no such set-up: {kind}; there are {', '.join(LOCKS)}")
    if done(kind) or (kind == "runtime" and done("dev")):
        refuse_foreign()
        return
    check_python()
    if not usable():
        say(f"making {VENV.name} with Python {sys.version_info[0]}.{sys.version_info[1]}")
        shutil.rmtree(VENV, ignore_errors=True)
        subprocess.run([sys.executable, "-I", "-m", "venv", str(VENV)], check=True)
    for old in LOCKS:
        stamp(old).unlink(missing_ok=True)
    pip = ("-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet")
    say(f"installing {LOCKS[kind]} (every file checked against its hash)")
    run(*pip, "--require-hashes", "--no-deps", "-r", LOCKS[kind])
    refuse_foreign()
    # The project itself, in place: its parts are in the lock already, its build needs setuptools, which is too.
    run(*pip, "--no-deps", "--no-build-isolation", "--editable", ".")
    refuse_foreign()
    stamp(kind).write_text(fingerprint(kind))
    say("done: .venv/bin/penstock")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "runtime")
    except KeyboardInterrupt:
        # Its stamp is written last: what was begun is begun again.
        give_up("stopped")
