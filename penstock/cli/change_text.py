"""What an event changed, in the few words of a table's cell: states, settings old → new, an action and its counts.

An event of an older Penstock may not have it all in its data: then the cell says less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penstock.client.limit_views import LimitEventView
    from penstock.client.views import EventView

__all__ = ["change_text"]


def change_text(view: EventView | LimitEventView) -> str:
    """`running → paused`, `budget $5.00 → $20.00`, `retry: 5 of 7 changed`; empty where an event changed nothing."""
    data = view["data"] if isinstance(view["data"], dict) else {}
    if view["type"] == "items.action":
        return f"{data.get('verb', '')} {data.get('items', '')}".strip()
    if view["type"] == "items.action_done":
        return _counts(data)
    settings = [_setting(name, *pair) for name, pair in data.items() if name in _SETTINGS and _is_pair(pair)]
    if settings or view["new_state"] in (None, view["old_state"]):
        return ", ".join(settings)
    return f"{view['old_state'] or '·'} → {view['new_state']}"


def _counts(data: dict[str, Any]) -> str:
    told = [f"{data['verb']}: {data['changed']:,} of {data['matched']:,} changed"]
    told += [f"{data[name]:,} {words}" for name, words in _REST.items() if data[name]]
    return ", ".join(told)


def _is_pair(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2


def _setting(name: str, old: Any, new: Any) -> str:
    words, shown = _SETTINGS[name]
    return f"{words} {_NONE if old is None else shown(old)} → {_NONE if new is None else shown(new)}"


def _dollars(micros: int) -> str:
    from penstock.words import dollars

    return dollars(micros)


def _number(value: float) -> str:
    return f"{value:,}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _rates(rates: list[dict[str, Any]]) -> str:
    told = []
    for rate in rates:
        more = "".join(f", {name} {rate[name]:,g}" for name in ("burst", "estimate") if rate.get(name))
        told.append(f"{rate['per_minute']:,g} {rate['dimension']} a minute{more}")
    return " + ".join(told) or _NONE


_NONE = "none"
_REST = {"already": "so already", "refused": "refused"}
_SETTINGS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "priority": ("priority", _number),
    "budget_micros": ("budget", _dollars),
    "item_budget_micros": ("budget of an item", _dollars),
    "concurrency": ("concurrency", _number),
    "max_tries": ("tries", _number),
    "max_run_seconds": ("seconds of an item", _number),
    "adaptive": ("adaptive", _yes),
    "cooldown_ms": ("cooldown in ms", _number),
    "rates": ("rates", _rates),
    "at_once": ("at once", _number),
}
