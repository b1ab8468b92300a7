"""The scheduler: who may run what now, and what became of it?

Nouns: a *run* is one execution of a plan; its *stages* run one after another; an *item* of a stage is leased to a
worker session under an *attempt* (the fence) and ends in an *outcome*. States and rules are in `domain/`, pure. SQL
(`store/`) is the truth; Redis (`ready.py`) proposes what to lease next and remembers until when.

The way of a call: `service.py`, `lease_service.py` (gRPC) -> `engine.py` / `commands.py` -> `store/` (one transaction
shared with others, `commit.py`) -> `ready.py` (what the commit means for Redis) -> the answer.

Failure story:

- This process dies: what was committed stands; workers keep their leases and go on; a new process rebuilds Redis from
  `running` rows and is quiet for one term before it declares any lease lost.
- Redis dies: nothing is granted until leases are rebuilt from SQL under a new generation; what runs goes on.
- SQL is unreachable: calls fail as `sql_unavailable`, readiness is false, workers keep retrying their reports; nothing
  is lost.
- The planner dies: stages are fed from what was read; nothing new is read until it is back.
- A worker dies: its leases end by the backend's word at once, else by their term; what had begun is
  next leased alone.
"""
