"""`penstock up`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["up"]


def up(
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="DIR",
            help="Where everything is kept; may exist (default: $PENSTOCK_DATA, else ~/.local/share/penstock).",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            min=1,
            max=65535,
            help="HTTP port on 127.0.0.1 (default: 8420, else the next free one).",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=256, help="Most worker processes (default: 2).", show_default=False),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Settings file, TOML (default: DIR/penstock.toml, if there is one).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start Penstock on this machine and keep it running until Ctrl-C.

    Prints `ready http://127.0.0.1:PORT` once everything answers. Open that address in a browser, or use the other
    commands from a second terminal. All state lies in the data folder: the next `penstock up` goes on with it.

    Examples:

      penstock up

      penstock up --data ./work --port 9000 --workers 4
    """
    from penstock.runtime.data_folder import default_data
    from penstock.supervisor.up import UpOptions
    from penstock.supervisor.up import up as run

    given = os.environ.get("PENSTOCK_DATA")
    chosen = data or (Path(given) if given else default_data())
    raise typer.Exit(run(UpOptions(chosen, port=port, workers=workers, config=config)))
