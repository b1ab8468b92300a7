"""`penstock limits`: how much of what all runs share may be used, what is closed, and opening it again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from penstock.amounts import time_text
from penstock.cli import show
from penstock.cli.change_text import change_text
from penstock.cli.options import DataOption, JsonOption, ReasonOption, carry_out, connected, seconds_of

if TYPE_CHECKING:
    from penstock.client.limit_views import LimitView
    from penstock.client.limits import RateOptions
    from penstock.v1 import scheduler_pb2

__all__ = ["app", "rate_of"]

app = typer.Typer(no_args_is_help=True, help="Bounds that all runs share, by key: rate, concurrency, closure.")

_MORE: tuple[Literal["burst", "estimate"], ...] = ("burst", "estimate")
NOT_OPEN = ("closed", "probing", "ramping")
KeyArgument = Annotated[
    str,
    typer.Argument(metavar="KEY", help="As provider:anthropic, or the pattern 'domain:*'.", show_default=False),
]
_WHOLE = re.compile(r"-?\d{1,18}", re.ASCII)
_RATE = re.compile(r"([a-z][a-z0-9_]*)=(\d+(?:\.\d+)?)((?:,(?:burst|estimate)=\d+(?:\.\d+)?)*)", re.ASCII)


def rate_of(text: str) -> RateOptions:
    """`tokens=40000,burst=8000,estimate=900`. Raises InvalidInput."""
    from penstock.client.limits import RateOptions
    from penstock.runtime.errors import InvalidInput

    found = _RATE.fullmatch(text)
    if found is None:
        raise InvalidInput(
            f"--rate {text!r}: so much a minute is needed, as requests=60 or tokens=40000,burst=8000,estimate=900",
            code="bad_rate",
        )
    more = dict(part.split("=") for part in found[3].split(",") if part)
    return RateOptions(
        dimension=found[1],
        per_minute=float(found[2]),
        burst=float(more.get("burst", 0)),
        estimate=float(more.get("estimate", 0)),
    )


@app.command("list")
def list_(
    prefix: Annotated[str, typer.Option("--prefix", help="Only keys that begin so.")] = "",
    closed: Annotated[bool, typer.Option("--closed", help="Only those that are not open.")] = False,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="Only open, closed, probing or ramping ones; repeat it."),
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """The limits, the keys that a valve has closed, and those that are in use now.

    Example: penstock limits list --prefix domain: --closed
    """

    async def work() -> None:
        from penstock.client.limit_views import limit_view

        async with connected(data) as client:
            states = [*(state or ()), *(NOT_OPEN if closed else ())]
            views = [limit_view(limit) for limit in await client.limits.list(prefix=prefix, states=states)]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("key", "pattern", "state", "in use", "at once", "a minute", "until", "reason"),
            [
                (
                    view["key"],
                    view["pattern"] or "",
                    view["state"],
                    view["held"],
                    _at_once(view),
                    _rates(view),
                    _until(view),
                    view["reason"],
                )
                for view in views
            ],
        )

    carry_out(work())


@app.command()
def events(
    key: Annotated[
        str, typer.Argument(metavar="[KEY]", help="Of this key alone (default: of all).", show_default=False)
    ] = "",
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="Events to show.")] = 50,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Who set, closed and opened what, since when and why, and what valves did by themselves; the latest first.

    Examples:

      penstock limits events

      penstock limits events domain:example.org --limit 10 --json
    """

    async def work() -> None:
        from penstock.client.limit_views import limit_event_view

        async with connected(data) as client:
            views = [limit_event_view(event) for event in await client.limits.events(key, limit=limit)]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("time", "key", "type", "change", "actor", "reason"),
            [
                (
                    view["time"],
                    view["key"],
                    view["type"],
                    change_text(view),
                    view["actor"],
                    view["reason"],
                )
                for view in views
            ],
        )

    carry_out(work())


@app.command("show")
def show_(key: KeyArgument, data: DataOption = None, as_json: JsonOption = False) -> None:
    """One limit.

    Example: penstock limits show provider:anthropic
    """

    async def work() -> None:
        async with connected(data) as client:
            limit = await client.limits.get(key)
        _print_limit(limit, as_json=as_json)

    carry_out(work())


@app.command("set")
def set_(
    key: KeyArgument,
    concurrency: Annotated[
        str, typer.Option("--concurrency", metavar="N|none", help="Most items at once; none: unbounded.")
    ] = "",
    rate: Annotated[
        list[str] | None,
        typer.Option(
            "--rate",
            metavar="WHAT=N[,burst=N][,estimate=N]",
            help="So much a minute of requests, or of what processors report as used; 0 takes it away; repeat it.",
        ),
    ] = None,
    adaptive: Annotated[
        bool | None,
        typer.Option("--adaptive/--no-adaptive", help="Find the concurrency: slow start, cut when throttled."),
    ] = None,
    cooldown: Annotated[
        str, typer.Option("--cooldown", metavar="TIME", help="Closure after a throttle that names no time, as 30s.")
    ] = "",
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make or change a limit; live at once. What is not named stays as it is.

    A key that ends with * is the limit of every key that begins so and has none of its own, each counted for itself.

    Examples:

      penstock limits set provider:anthropic --rate requests=50 --rate tokens=40000,estimate=900 --adaptive

      penstock limits set 'domain:*' --concurrency 2
    """

    async def work() -> None:
        from penstock.client.limits import RateOptions
        from penstock.runtime.errors import InvalidInput, NotFound

        problems: list[str] = []
        changed: dict[str, RateOptions] = {}
        pause = None
        if not (concurrency in ("", "none") or _WHOLE.fullmatch(concurrency)):
            problems.append(f"--concurrency {concurrency!r}: a number or `none` is needed")
        for text in rate or []:
            try:
                told = rate_of(text)
                changed[told.dimension] = told
            except InvalidInput as error:
                problems.append(error.message)
        try:
            pause = seconds_of(cooldown, "--cooldown") if cooldown else None
        except InvalidInput as error:
            problems.append(error.message)
        if problems:
            raise InvalidInput("; ".join(problems), code="bad_limit")
        async with connected(data) as client:
            try:
                now = await client.limits.get(key)
            except NotFound:
                now = None
            rates: dict[str, RateOptions] = {}
            if now is not None:
                for one in now.rates:
                    rates[one.dimension] = RateOptions(
                        dimension=one.dimension, per_minute=one.per_minute, burst=one.burst, estimate=one.estimate
                    )
            rates.update(changed)
            most = now.concurrency if now is not None and now.HasField("concurrency") else None
            if concurrency:
                most = None if concurrency == "none" else int(concurrency)
            limit = await client.limits.set(
                key,
                concurrency=most,
                rates=[one for one in rates.values() if one.per_minute],
                adaptive=adaptive if adaptive is not None else now is not None and now.adaptive,
                cooldown_seconds=pause if pause is not None else now.cooldown_seconds if now is not None else 0.0,
                etag=now.etag if now is not None else "",
                reason=reason,
            )
        _print_limit(limit, as_json=as_json)

    carry_out(work())


@app.command()
def delete(key: KeyArgument, reason: ReasonOption = "", data: DataOption = None, as_json: JsonOption = False) -> None:
    """Take a limit away; what it held back goes on.

    Example: penstock limits delete 'domain:*'
    """

    async def work() -> None:
        async with connected(data) as client:
            changed = await client.limits.delete(key, reason=reason)
        if as_json:
            show.print_json({"key": key, "changed": changed})
        else:
            show.say(f"{key}: deleted" if changed else f"{key}: there was none")

    carry_out(work())


@app.command()
def close(
    key: KeyArgument,
    for_: Annotated[
        str, typer.Option("--for", metavar="TIME", help="As 90s, 10m, 2h (default: until it is opened).")
    ] = "",
    reason: ReasonOption = "",
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start nothing that names a key; what runs finishes, other items go on.

    Example: penstock limits close domain:example.org --for 2h --reason "they asked us to"
    """

    async def work() -> None:
        import datetime as dt

        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds_of(for_, "--for")) if for_ else None
        async with connected(data) as client:
            limit = await client.limits.close(key, until=until, reason=reason)
        _print_limit(limit, as_json=as_json)

    carry_out(work())


@app.command("open")
def open_(key: KeyArgument, reason: ReasonOption = "", data: DataOption = None, as_json: JsonOption = False) -> None:
    """End any closure of a key, and the caution after one.

    Example: penstock limits open provider:anthropic
    """

    async def work() -> None:
        async with connected(data) as client:
            limit = await client.limits.open(key, reason=reason)
        _print_limit(limit, as_json=as_json)

    carry_out(work())


def _print_limit(limit: scheduler_pb2.Limit, *, as_json: bool) -> None:
    from penstock.client.limit_views import limit_view

    view = limit_view(limit)
    if as_json:
        show.print_json(view)
        return
    why = f": {show.text(view['reason'])}" if view["reason"] else ""
    show.say(f"{show.text(view['key'])}: {view['state']}{why}")
    facts = {
        "in use": str(view["held"]),
        "at once": _at_once(view),
        "a minute": _rates(view, whole=True),
        "until": _until(view),
        "cooldown": time_text(view["cooldown_seconds"]) if view["cooldown_seconds"] else None,
    }
    show.print_facts(facts.items())


def _at_once(view: LimitView) -> str | None:
    """What is allowed now, and of what, where a valve or the search for a good number holds it lower."""
    most, cap = view["concurrency"], view["cap"]
    found = " (adaptive)" if view["adaptive"] else ""
    if view["state"] != "closed" and cap is not None and (most is None or cap < most):
        return f"{cap}" + (f" of {most}" if most is not None else "") + found
    return None if most is None else f"{most}{found}"


def _rates(view: LimitView, *, whole: bool = False) -> str:
    """`600 requests, 40,000 tokens`; whole: with what was set of each besides."""
    told = []
    for rate in view["rates"]:
        more = [f"{name} {rate[name]:,g}" for name in _MORE if rate[name]] if whole else []
        told.append(f"{rate['per_minute']:,g} {rate['dimension']}" + (f" ({', '.join(more)})" if more else ""))
    return ", ".join(told)


def _until(view: LimitView) -> str | None:
    if view["state"] == "closed":
        return view["closed_until_time"] or "it is opened"
    return view["closed_until_time"]
