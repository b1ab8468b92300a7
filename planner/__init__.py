"""The planner: what will run, in what order, and why?

It takes uploads (documents as files or one zip, or plain items as JSONL), makes of each an immutable snapshot, and of
a snapshot and the settings of its stages an immutable plan that the scheduler reads window by window.

The limit keys of every item are asked of its processor once, when the plan is made: items with the same keys are a
lane, and the scheduler reads the lanes that it wants. Chosen items of a plan make a plan of their own.

A source is refused whole or kept; a plan is a draft (a preview, kept for a day) or kept. Neither ever changes: their
ids are hashes over what they are, so the same upload is the same source and the same request the same plan. A plan that
no run needs can be removed (`removals`): it is marked, the scheduler lets go of it, what its runs recorded is copied,
then it goes; its files go an hour later, unless something else has them.

What fails: an upload is spooled beside the blobs in a folder of its own, which goes with it, whatever happens; one
whose planner was killed is removed when the next planner starts. Blobs become durable before the row that names them,
so a row never names what is not there; a kill between the two leaves blobs that nobody names. While SQL or the disk
can't be used, calls answer UNAVAILABLE with the reason and health says NOT_SERVING; nothing is held that a restart
would lose.
"""
