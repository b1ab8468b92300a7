"""Generates the stubs of `protos/` into a folder: `python -m tools.stubs [FOLDER]` (default: the project itself)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
__all__ = ["generate"]


def generate(folder: Path) -> None:
    """Writes penstock/v1/*_pb2{,_grpc}.py{,i} below `folder`. Raises CalledProcessError when protoc refuses."""
    plugins = Path(sys.executable).parent
    subprocess.run(
        [
            *(sys.executable, "-P", "-m", "grpc_tools.protoc", "-I", "protos"),
            f"--plugin=protoc-gen-mypy={plugins / 'protoc-gen-mypy'}",
            f"--plugin=protoc-gen-mypy_grpc={plugins / 'protoc-gen-mypy_grpc'}",
            *(f"--{kind}_out={folder}" for kind in ("python", "grpc_python")),
            *(f"--{kind}_out=quiet:{folder}" for kind in ("mypy", "mypy_grpc")),
            *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "protos").rglob("*.proto")),
        ],
        cwd=ROOT,
        check=True,
    )


if __name__ == "__main__":
    generate(Path(sys.argv[1]).absolute() if len(sys.argv) > 1 else ROOT)
