"""A folder for PYTHONPATH with a processor in it, as pip would install one: a module and its entry point."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["install_processor"]


def install_processor(site: Path, source: Path, *, name: str, target: str) -> dict[str, str]:
    """Copies `source` (a module or a package) there and declares `name`; the environment that a stack needs for it."""
    site.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, site / source.name)
    else:
        shutil.copyfile(source, site / source.name)
    metadata = site / f"{name.replace('-', '_')}-1.0.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
    (metadata / "entry_points.txt").write_text(f"[penstock.processors]\n{name} = {target}\n")
    return {"PYTHONPATH": str(site)}
