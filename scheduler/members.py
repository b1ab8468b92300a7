"""What scripts are told and tell: members (`seq lane`), the limit keys that they name, limits as texts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from scheduler.domain.limits import LimitState, lane_keys
from scheduler.store.effects import Place, Slot

__all__ = ["Ranges", "by_lane", "fields", "limit_text", "members", "places", "ranked", "slot"]

Ranges = dict[str, list[int]]
"""By lane."""


def slot(member: bytes) -> Slot:
    seq, _, lane = member.decode().partition(" ")
    return int(seq), lane


def places(told: str, ranks: Mapping[str, int]) -> list[Place]:
    """Of members, a line each."""
    found = []
    for member in told.split("\n") if told else ():
        text, _, lane = member.partition(" ")
        seq = int(text)
        found.append((seq, lane, ranks.get(text, seq) if ranks else seq))
    return found


def members(slots: Iterable[Slot]) -> tuple[list[str], dict[str, int]]:
    """As members, each once; and how many of them name each limit key."""
    found: list[str] = []
    lanes: dict[str, int] = {}
    for seq, lane in dict.fromkeys(slots):
        found.append(f"{seq} {lane}")
        lanes[lane] = lanes.get(lane, 0) + 1
    keys: dict[str, int] = {}
    for lane, count in lanes.items():
        for key in lane_keys(lane):
            keys[key] = keys.get(key, 0) + count
    return found, keys


def ranked(wanted: Iterable[Place]) -> tuple[list[str], list[int], bool]:
    """Members, their ranks, and whether these are other than the seqs."""
    found, ranks, moved = [], [], False
    for seq, lane, rank in wanted:
        found.append(f"{seq} {lane}")
        ranks.append(rank)
        moved = moved or rank != seq
    return found, ranks, moved


def fields(used: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """What was used by lane, for each bucket that may be there."""
    found: dict[str, float] = {}
    for lane, more in used.items():
        for key in lane_keys(lane):
            for dimension, amount in more.items():
                found[f"{key} {dimension}"] = found.get(f"{key} {dimension}", 0.0) + amount
    return found


def by_lane(wanted: Iterable[Place]) -> tuple[Ranges, Ranges]:
    """By lane: seqs whose rank is their seq, and seq, rank, seq, rank … of the others."""
    plain: Ranges = {}
    moved: Ranges = {}
    for seq, lane, rank in wanted:
        if rank == seq:
            plain.setdefault(lane, []).append(seq)
        else:
            moved.setdefault(lane, []).extend((seq, rank))
    return plain, moved


def limit_text(state: LimitState | None) -> str | bool:
    """false: it is gone; else concurrency (-: none), closed until (0: open, -1: until somebody opens it), and for
    each rate its dimension, what flows in in a millisecond, burst and estimate."""
    if state is None:
        return False
    closed = -1 if state.closed_until_ms is None else state.closed_until_ms
    rates = "".join(
        f" {rate.dimension} {rate.per_minute / 60_000!r} {rate.burst!r} {rate.estimate!r}" for rate in state.rates
    )
    return f"{'-' if state.concurrency is None else state.concurrency} {closed}{rates}"
