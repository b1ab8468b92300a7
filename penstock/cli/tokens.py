"""`penstock tokens`: who may ask a gateway, and what they may do there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, carry_out, seconds_of

if TYPE_CHECKING:
    from penstock.client.token_views import TokenView
    from penstock.client.tokens import Tokens

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="API tokens of a gateway that asks who calls (setting gateway.auth = tokens)."
)

NEVER = "never"


def _seconds(text: str) -> int | None:
    """`90d` as seconds; None for `never`. Raises InvalidInput."""
    return None if text == NEVER else max(int(seconds_of(text, "--expires")), 1)


def _tokens(data: Path | None) -> Tokens:
    """Of the gateway alone: from afar there is nothing else that answers. Raises Unavailable."""
    from penstock.client.discovery import find_gateway
    from penstock.client.tokens import Tokens

    return Tokens(lambda: find_gateway(data=data))


@app.command()
def create(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Who comes with it, as events will tell it.", show_default=False),
    ],
    role: Annotated[
        Literal["viewer", "operator", "admin"],
        typer.Option("--role", help="viewer looks, operator acts too, admin decides what all share too."),
    ] = "viewer",
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="From now on, as 90d or 12h; never: it does not.")
    ] = "90d",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a token. It is printed this once, on standard output, and kept nowhere.

    Example: penstock tokens create ci --role operator --expires 30d
    """

    async def work() -> None:
        seconds = _seconds(expires)
        made = await _tokens(data).create(name, role=role, expires_seconds=seconds)
        if as_json:
            show.print_json(made)
            return
        show.say(made["secret"])
        token = made["token"]
        until = f"expires {token['expire_time']}" if token["expire_time"] else "never expires"
        print(f"{name}: {token['role']}, {until}. The token above is shown this once.", file=sys.stderr)

    carry_out(work())


@app.command("list")
def list_(
    ended: Annotated[bool, typer.Option("--all", help="Also those that are revoked or expired.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The tokens, the latest first; never their secrets.

    Example: penstock tokens list --all
    """

    async def work() -> None:
        tokens = await _tokens(data).list(ended=ended)
        if as_json:
            show.print_json(tokens)
            return
        show.print_table(
            ("name", "role", "state", "made by", "made", "expires", "last used", "id"),
            [
                (
                    token["name"],
                    token["role"],
                    token["state"],
                    token["create_actor"],
                    _day(token["create_time"]),
                    _day(token["expire_time"]) if token["expire_time"] else NEVER,
                    _minute(token),
                    token["token_id"],
                )
                for token in tokens
            ],
        )

    carry_out(work())


def _day(time: str | None) -> str:
    return (time or "")[:10]


def _minute(token: TokenView) -> str:
    return (token["last_use_time"] or "")[:16].replace("T", " ")


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its name, or its id.", show_default=False)],
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a token, and the sessions of browsers that were made with it.

    Example: penstock tokens revoke ci
    """

    async def work() -> None:
        changed = await _tokens(data).revoke(token)
        if as_json:
            show.print_json({"token": token, "changed": changed})
        else:
            show.say(f"{token} is revoked" if changed else f"{token} was revoked already")

    carry_out(work())
