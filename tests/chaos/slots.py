"""Redis seen from outside, in one transaction, while everything runs: the slots that are held are the leases that live.

Scripts are atomic, so this holds at every instant, whatever was flushed, rolled back or is being made anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import redis

__all__ = ["snapshot", "unlike_leases"]

Dump = dict[bytes, bytes]


def snapshot(client: redis.Redis) -> Dump:
    """All that Redis holds at one instant: what is dumped key by key while scripts go on is no state it ever had."""
    script = """
local found = {}
for _, name in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = name
  found[#found + 1] = redis.call('DUMP', name)
end
return found
"""
    flat: Any = client.eval(script, 0)
    return dict(zip(flat[::2], flat[1::2], strict=True))


def unlike_leases(client: redis.Redis) -> Iterator[str]:
    """What is counted and not there, or there and not counted."""
    script = """
local found = {}
for _, name in ipairs(redis.call('KEYS', '*:leases:*')) do
  found[#found + 1] = {name, redis.call('ZRANGE', name, 0, -1)}
end
local counted = {}
for _, hash in ipairs({'slots', 'shares', 'owners'}) do
  local name = redis.call('KEYS', '*:' .. hash)[1]
  counted[#counted + 1] = name and redis.call('HGETALL', name) or {}
end
return {found, counted}
"""
    answer: Any = client.eval(script, 0)
    leases, counted = answer
    slots, shares, owners = (_fields(one) for one in counted)
    there: dict[str, Counter[str]] = {"slots": Counter(), "shares": Counter()}
    for name, members in leases:
        run = name.decode().split(":leases:")[1].split(":")[0]
        for member in members:
            there["slots"].update(member.decode().partition(" ")[2].split())
        there["shares"][f"run:{run}"] += len(members)
        if run in owners:
            there["shares"][f"owner:{owners[run]}"] += len(members)
    for hash_name, said in (("slots", slots), ("shares", shares)):
        wrong = {
            field: (int(said.get(field, 0)), there[hash_name][field])
            for field in said.keys() | there[hash_name].keys()
            if int(said.get(field, 0)) != there[hash_name][field]
        }
        if wrong:
            yield f"{hash_name} in Redis are not its leases (counted, there): {wrong}"


def _fields(flat: list[bytes]) -> dict[str, str]:
    texts = [one.decode() for one in flat]
    return dict(zip(texts[::2], texts[1::2], strict=True))
