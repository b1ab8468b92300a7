"""The sandbox of `custom` selections: one SELECT of a stranger, in a process that can reach nothing but its tables.

DuckDB says of itself that whoever may send it SQL may do what its process may do, so the process may do nothing:

- `planner.sandbox.sandbox`: what the planner calls. One query at a time, four waiting.
- `planner.sandbox.process`: one child from its birth to its last wait; the deadline; what it may answer.
- `planner.sandbox.tables`: what a query sees: columns under their users' names.
- `planner.sandbox.child`: the child. It shuts itself in before it looks at the query, and parses before it runs.

This file stays empty of code: the child imports it, and must start fast.

What fails: whatever a query does, the planner sees a child that ended or that it killed, and an answer that it has not
believed before looking at it. A query changes nothing, so any of it may be tried again.
"""
