"""What is set otherwise, as sentences that a person reads: `stage 0: concurrency 8, was 64`.

Settings are values of JSON; what stands inside objects is told by its path, `parameters.fetch.timeout`. Lists are told
whole. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import orjson

__all__ = ["Words", "differences"]

TOLD_CHARACTERS = 100
MOST_TOLD = 50


class Words(str):
    """A text that is told as it stands, commas and all."""


def differences(where: str, before: Mapping[str, object], after: Mapping[str, object]) -> Sequence[str]:
    """A sentence for each setting of `where` that is not alike; of very many the first ones, and how many more."""
    was, now = dict(_leaves(before)), dict(_leaves(after))
    found = [
        f"{where}: {_sentence(path, was, now)}"
        for path in dict.fromkeys((*now, *was))
        if path not in was or path not in now or _json(was[path]) != _json(now[path])
    ]
    more = [f"{where}: {len(found) - MOST_TOLD:,} more settings"] if len(found) > MOST_TOLD else []
    return [*found[:MOST_TOLD], *more]


def _sentence(path: str, was: Mapping[str, object], now: Mapping[str, object]) -> str:
    if path not in was:
        return f"{path} {_told(now[path])}, was not set"
    if path not in now:
        return f"{path} is not set, was {_told(was[path])}"
    return f"{path} {_told(now[path])}, was {_told(was[path])}"


def _leaves(values: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    """By path; an object without anything in it is as good as none."""
    for name, value in values.items():
        shown = name if name.isprintable() else _json(name)
        path = f"{above}{shown}" if above else shown.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")
        else:
            yield path, value


def _told(value: object) -> str:
    """Plain words as they are, all else as JSON."""
    if isinstance(value, Words):
        text = str(value)
    elif isinstance(value, str) and value and value.isprintable() and not value.startswith(("[", "{", '"', " ")):
        text = value if not set(value) & set(",;") else _json(value)
    else:
        text = _json(value)
    return text if len(text) <= TOLD_CHARACTERS else text[: TOLD_CHARACTERS - 1] + "…"


def _json(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
