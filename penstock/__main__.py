"""`python -P -m penstock`: the command line without its script."""

from __future__ import annotations

from penstock.cli import main

if __name__ == "__main__":
    main()
