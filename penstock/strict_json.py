"""JSON as it is defined: UTF-8, each name once in an object, numbers that are numbers.

What people send is read here, over HTTP and on the command line alike: a reader that takes one of two equal names does
something that they may not have meant. Nothing but a ValueError leaves here for a text that can't be read.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

__all__ = ["NotStrict", "read_json", "repeated"]


class NotStrict(ValueError):
    """Keeps the grammar, and still is none that is read here: a sentence that says why."""


def repeated(pairs: Sequence[tuple[str, object]]) -> str:
    """The first name of an object that stands there twice; one does."""
    times = Counter(name for name, _ in pairs)
    return next(name for name, _ in pairs if times[name] > 1)


def read_json(data: bytes | str, *, what: str) -> object:
    """what: as which errors tell the text. A byte order mark is no part of it. Raises NotStrict, and
    `json.JSONDecodeError`, which knows the place, for what breaks the grammar; both are ValueErrors."""

    def single(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise NotStrict(f"the name {repeated(pairs)[:80]!r} stands twice in an object of {what}")
        return found

    def no_number(text: str) -> float:
        raise NotStrict(f"{what} is no JSON: it has no number {text}")

    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data.removeprefix("\ufeff")
        return json.loads(text, object_pairs_hook=single, parse_constant=no_number)
    except (json.JSONDecodeError, NotStrict):
        raise
    except UnicodeDecodeError as error:
        raise NotStrict(f"{what} is no UTF-8: byte {error.start + 1} of it is wrong") from None
    except RecursionError:
        raise NotStrict(f"{what} is nested too deep") from None
    except ValueError:  # Python reads no whole number of more than some thousand digits
        raise NotStrict(f"{what} has a number of too many digits") from None
