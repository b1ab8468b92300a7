"""`penstock plans profiles`, and the option that names one."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from penstock.cli import show
from penstock.cli.options import DataOption, JsonOption, carry_out, connected

__all__ = ["ProfileOption", "profiles"]

ProfileOption = Annotated[
    str, typer.Option("--profile", metavar="NAME", help="How hard: fast, standard, thorough; see `plans profiles`.")
]


def profiles(data: DataOption = None, as_json: JsonOption = False) -> None:
    """The profiles that plans may name, and what each sets. What a plan's stage says itself goes before.

    Example: penstock plans profiles
    """

    async def work() -> None:
        from penstock.client.plan_views import profile_view

        async with connected(data) as client:
            views = [profile_view(profile) for profile in await client.plans.profiles()]
        if as_json:
            show.print_json(views)
            return
        show.print_table(
            ("profile", "concurrency", "tries", "seconds", "class", "parameters"),
            [
                (
                    view["name"],
                    view["concurrency"] or "default",
                    view["max_tries"] or "default",
                    view["max_run_seconds"] or "default",
                    view["worker_class"] or "default",
                    json.dumps(view["parameters"], ensure_ascii=False) if view["parameters"] else "",
                )
                for view in views
            ],
        )

    carry_out(work())
