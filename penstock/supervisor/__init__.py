"""The embedded mode: `penstock up`, one supervisor over Redis, planner, scheduler, analyzer and gateway on loopback.

The supervisor is the process that the user started. It knows no run and no document: it starts programs, says when
they are ready, restarts what dies and stops everything in order.

States: starting (until the gateway's /readyz answers 200) > serving > stopping. Its failure story: it may be killed at
any instant. Every program holds the read end of a pipe whose only write end is here, so all of them end within a second
of it; what was recorded in the data folder lets the next `penstock up` end what did not, and go on with all runs.
"""
