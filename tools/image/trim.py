"""Makes an installed environment small and fixed: `python3 -I trim.py VENV [--as PATH]`.

Runs inside of the image's build. It removes what no program opens (tests, static archives, headers, type stubs,
activation scripts), compiles the rest to byte code that is taken unchecked, so that a read-only root never asks for a
newer one, and sets one date for all, so that the same wheels make the same files. `--as` is where VENV will lie, when
it is staged elsewhere. `--standard-library ROOT` puts below ROOT the byte code of the base's own modules, where the
base has none: the official Python image ships without. A module that can't be compiled ends it with 1.
"""

from __future__ import annotations

import argparse
import os
import py_compile
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from importlib.util import cache_from_source
from pathlib import Path

__all__ = ["compile_all", "compile_standard_library", "fix_dates", "trim"]

TEST_FOLDERS = frozenset({"test", "tests"})
DEAD_SUFFIXES = (".a", ".c", ".cpp", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx")
DEAD_NAMES = ("direct_url.json",)
"""Tells where on the building machine a package was found."""
ACTIVATION = ("activate", "activate.csh", "activate.fish", "Activate.ps1")
NO_SERVER_IMPORTS = frozenset(
    {"ensurepip", "idlelib", "lib2to3", "pydoc_data", "test", "tkinter", "turtledemo", "site-packages", "dist-packages"}
)
"""Folders of the standard library whose byte code would weigh and never be read."""
DATE = 315_532_800
"""1980-01-01, the first that every archive can tell."""


def trim(environment: Path) -> int:
    """Removes what is dead weight below the environment; how many bytes that were."""
    removed = 0
    for top in (environment / "include", *environment.glob("lib/python3*/site-packages")):
        for folder, folders, names in os.walk(top):
            for name in [name for name in folders if name in (*TEST_FOLDERS, "__pycache__")]:
                folders.remove(name)
                path = Path(folder, name)
                removed += sum(one.lstat().st_size for one in path.rglob("*") if one.is_file())
                shutil.rmtree(path)
            for name in names:
                if name.endswith(DEAD_SUFFIXES) or name in DEAD_NAMES:
                    path = Path(folder, name)
                    removed += path.lstat().st_size
                    path.unlink()
    for name in ACTIVATION:
        (environment / "bin" / name).unlink(missing_ok=True)
    return removed


def compile_all(environment: Path, home: Path) -> list[str]:
    """Byte code beside every module, as if the environment lay at `home`; what can't be compiled, and why."""
    problems = []
    for source in sorted(environment.rglob("*.py")):
        if "site-packages" in source.parts:
            where = str(home / source.relative_to(environment))
            problems += _compile(source, Path(cache_from_source(str(source))), where)
    return problems


def compile_standard_library(root: Path) -> list[str]:
    """Byte code of what the base has none of, below `root`."""
    problems = []
    root.mkdir(parents=True, exist_ok=True)
    for source in _standard_library():
        cached = Path(cache_from_source(str(source)))
        if not cached.exists():
            problems += _compile(source, root / cached.relative_to("/"), str(source))
    return problems


def _standard_library() -> Iterator[Path]:
    for folder, folders, names in os.walk(sysconfig.get_path("stdlib")):
        folders[:] = sorted({*folders} - NO_SERVER_IMPORTS - {"__pycache__"})
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def _compile(source: Path, cached: Path, where: str) -> list[str]:
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    cached.parent.mkdir(parents=True, exist_ok=True)
    try:
        py_compile.compile(str(source), str(cached), dfile=where, doraise=True, invalidation_mode=unchecked)
    except py_compile.PyCompileError as error:
        return [f"{where}: {error.msg.strip()}"]
    return []


def fix_dates(root: Path) -> None:
    """One date for all that lies below `root`, and itself."""
    for path in [root, *root.rglob("*")]:
        os.utime(path, (DATE, DATE), follow_symlinks=False)


def main() -> int:
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("environment", type=Path, nargs="?")
    asked.add_argument("--as", dest="home", type=Path)
    asked.add_argument("--standard-library", dest="root", type=Path)
    told = asked.parse_args()
    problems = []
    if told.environment is not None:
        removed = trim(told.environment)
        print(f"trim: {removed / 1e6:.0f} MB removed from {told.environment}")
        problems += compile_all(told.environment, told.home or told.environment)
        fix_dates(told.environment)
    if told.root is not None:
        problems += compile_standard_library(told.root)
        fix_dates(told.root)
    for problem in problems:
        print(f"can't be compiled: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
