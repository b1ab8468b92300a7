"""All commands in one place, and the one place that turns what went wrong into a sentence and an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from penstock import __version__
from penstock.cli import (
    budgets,
    cluster,
    documents,
    gates,
    items,
    limits,
    plans,
    process,
    processors,
    retries,
    runs,
    server,
    sources,
    tasks,
    tokens,
    workers,
)
from penstock.cli.migrate import migrate
from penstock.cli.up import up

__all__ = ["app", "run"]

FAILED = 1
BAD_INPUT = 2

app = typer.Typer(
    name="penstock",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(up)
app.command()(server.status)
app.command()(migrate)
app.add_typer(documents.app, name="documents")
app.add_typer(sources.app, name="sources")
app.add_typer(plans.app, name="plans")
app.add_typer(process.app, name="process")
app.add_typer(process.app, name="process-query", help="The same as `process`.")
app.add_typer(runs.app, name="runs")
app.add_typer(items.app, name="items")
app.add_typer(gates.app, name="gates")
app.add_typer(budgets.app, name="budgets")
app.add_typer(limits.app, name="limits")
app.add_typer(retries.app, name="retries")
app.add_typer(workers.app, name="workers")
app.command()(workers.classes)
app.add_typer(processors.app, name="processors")
app.add_typer(tasks.app, name="tasks")
app.add_typer(tokens.app, name="tokens")
app.add_typer(cluster.app, name="cluster")
app.command()(server.settings)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File with the API token, for a gateway that asks for one (default: $PENSTOCK_TOKEN).",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Large batches of AI work: choose the items, see the plan, start, watch, pause, stop, resume.

    Begin with `penstock up`, then, in a second terminal:

      penstock documents analyze ./texts

    or, of any rows:

      penstock sources add mice mice.jsonl

      penstock plans create mice --processor noop --name first

    Exit codes: 0 completed; 1 failed, stopped or unreachable; 2 bad input or usage; 3 completed with failures;
    130 detached by Ctrl-C while watching.
    """
    if token_file is not None:
        os.environ["PENSTOCK_TOKEN"] = token_file.read_text().strip()


_NO_SUCH_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What was typed is no file that can be used."""


def run() -> int:
    """Runs the command line; the exit code."""
    try:
        app()
    except SystemExit as ended:  # how typer ends: 2 for usage, else the command's own code
        return ended.code if isinstance(ended.code, int) else 0
    except BrokenPipeError:
        # `penstock … | head`: nobody reads on, and the interpreter's own flush at exit must not complain of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        return _told(error)
    return 0


def _told(error: Exception) -> int:
    # Imported late: most commands end well, and this brings gRPC with it.
    from penstock.runtime.errors import InvalidInput, NotFound, PenstockError, TooLarge

    if not isinstance(error, PenstockError):
        if isinstance(error, OSError):
            place = f"{error.filename}: " if error.filename else ""
            print(f"penstock: {place}{error.strerror or error}", file=sys.stderr)
            return BAD_INPUT if isinstance(error, _NO_SUCH_FILE) else FAILED
        raise error
    if "--json" in sys.argv:
        import json

        about = {"about": error.metadata} if error.metadata else {}
        print(json.dumps({"error": {"code": error.code, "message": error.message, **about}}), file=sys.stderr)
    else:
        print(f"penstock: {error.message}", file=sys.stderr)
        if "caret" in error.metadata:
            print(f"  {error.metadata['line']}\n  {error.metadata['caret']}", file=sys.stderr)
    return BAD_INPUT if isinstance(error, (InvalidInput, NotFound, TooLarge)) else FAILED
