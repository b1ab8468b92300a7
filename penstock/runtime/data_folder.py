"""Where everything is kept when nobody says: servers start there, clients look there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["default_data"]


def default_data(environment: Mapping[str, str] | None = None) -> Path:
    """The data folder without `--data` and without PENSTOCK_DATA."""
    environment = os.environ if environment is None else environment
    home = environment.get("HOME") or str(Path.home())
    return Path(home) / ".local" / "share" / "penstock"
