"""The command line: `penstock up`, `documents`, `runs`, `items`, `gates`, `budgets`, `limits`, `retries`, …

It asks the server through `penstock.client` and shows what came back; no rule of the core lives here. Every command but
`up` has `--json`. Exit codes: 0 completed, 1 failed, stopped or unreachable, 2 bad input or usage, 3 completed with
failures. What goes wrong is one sentence on standard error, never a stack trace.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """The `penstock` command."""
    given = set(sys.argv[1:])
    if given and given <= {"--version", "-V", "--json"} and given != {"--json"}:
        # Answered before anything is imported: scripts ask for it often.
        from penstock import __version__

        print(f'{{"version": "{__version__}"}}' if "--json" in given else f"penstock {__version__}")
        return
    from penstock.cli.app import run

    sys.exit(run())
