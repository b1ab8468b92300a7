"""Times and money that were measured or estimated, rounded for people: by two digits that count, and halves up.

The one place that rounds them: what a preview tells, what a comparison tells, what a warning tells and what a moving
line tells of the same number reads alike. JSON has the numbers as they are, and money that was spent or capped is told
to the last micro (`penstock.words.dollars`). Pure, like `penstock.words`; fails for no number that is finite.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from penstock.words import MICROS, dollars

__all__ = ["money_range", "money_text", "time_range", "time_text"]

_UNITS = ((86_400.0, "days"), (3_600.0, "h"), (60.0, "min"))
_ENOUGH = 1.5
"""A unit is taken from so many of it on: 80 s, not 1.3 min."""
_LEAST_SECONDS = 0.01
_HUNDREDTH = Decimal("0.01")


def time_text(seconds: float) -> str:
    """`0.35 s`, `80 s`, `2.5 min`, `25 h`."""
    if 0 < seconds < _LEAST_SECONDS:
        return f"less than {_LEAST_SECONDS} s"
    size, unit = _unit(seconds)
    return f"{_number(seconds / size)} {unit}"


def time_range(low: float, high: float) -> str:
    """`20 to 35 min`, in the unit that suits the longer end; `about 20 min` where both ends read the same."""
    if 0 < high < _LEAST_SECONDS:
        return time_text(high)
    size, unit = _unit(high)
    least, most = _number(low / size), _number(high / size)
    if least != most:
        return f"{least} to {most} {unit}"
    return f"about {most} {unit}" if high else f"{most} {unit}"


def money_text(micros: float) -> str:
    """`$0.0034`, `$1.20`, `$12`, `$1,200`."""
    if 0 < micros < 1:
        return f"less than {dollars(1)}"
    return _dollars(_rounded(round(micros)))


def money_range(low: float, high: float, *, beside: int | None = None) -> str:
    """`$1.20 to $3.40`; `about $1.20` where both ends read the same and are not.

    beside: an amount in micros that is told exactly in the same sentence; each end has digits enough to stand, as it
    is told, on the side of it where it is.
    """
    if 0 < high < 1:
        return money_text(high)
    least, most = (_dollars(_rounded(round(one), beside)) for one in (low, high))
    if least != most:
        return f"{least} to {most}"
    return least if low == high else f"about {least}"


def _unit(seconds: float) -> tuple[float, str]:
    return next((one for one in _UNITS if seconds >= one[0] * _ENOUGH), (1.0, "s"))


def _number(value: float) -> str:
    """Small parts of a unit are told to a hundredth of it."""
    exact = Decimal(value)
    told = exact.quantize(_HUNDREDTH if value < 1 else Decimal(1).scaleb(exact.adjusted() - 1), ROUND_HALF_UP)
    text = f"{told:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _rounded(micros: int, beside: int | None = None) -> int:
    """By two digits that count, or by the fewest more that leave it above, at or below `beside` as it is."""
    unit = int(10 ** max(len(str(abs(micros))) - 2, 0))
    told = (micros + unit // 2) // unit * unit
    while beside is not None and _side(told, beside) != _side(micros, beside):
        unit //= 10
        told = (micros + unit // 2) // unit * unit
    return told


def _side(micros: int, beside: int) -> int:
    return (micros > beside) - (micros < beside)


def _dollars(micros: int) -> str:
    """From ten dollars on without cents where there are none."""
    if not micros:
        return "$0"
    return dollars(micros).removesuffix(".00") if abs(micros) >= 10 * MICROS else dollars(micros)
