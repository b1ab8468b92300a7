"""`penstock migrate`: the services' schemas brought to this version, by whoever may make tables.

Run before the new programs, or as a Job beside them: they wait for it. Never down; of several at once one does it.
Exit codes: 0 done or nothing to do; with --check 1 where something is to be done; 2 for settings that are wrong, and
where a schema is newer than this version can work on; 1 for a database that can't be used.
"""

from __future__ import annotations

from importlib import resources
from typing import Annotated

import typer

__all__ = ["migrate"]


def migrate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; 1 where something is to be done.")] = False,
    print_roles: Annotated[
        bool, typer.Option("--print-roles", help="Print SQL that makes a role for each service, and change nothing.")
    ] = False,
) -> None:
    """Bring the databases of all services to this version's schemas. Settings and databases are those of the
    environment: PENSTOCK_MIGRATIONS__DATABASE_URL, else each service's own."""
    if print_roles:
        typer.echo(resources.files("penstock.runtime").joinpath("roles.sql").read_text(), nl=False)
        return
    from penstock.runtime.schema import migrate_all
    from penstock.runtime.settings import load

    left = False
    for move in migrate_all(load(), look=check):
        typer.echo(str(move))
        left = left or move.before < move.after
    if check and left:
        raise typer.Exit(1)
