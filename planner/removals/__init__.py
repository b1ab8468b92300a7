"""Plans that go: who may still need them, what goes along, and when their files do.

A reader's path: `calls` is DeletePlan on the wire, `removing` the steps of it and what a death in between leaves,
`plan_uses` the scheduler that lets go of a plan or names the runs that need it, `rows` the SQL (the one place where
rows of plans are deleted, drafts of a source that goes included), `dropped_files` the files, an hour
later.

Nothing here decides what a run needs: the scheduler does. Where it can't be asked, a plan stays marked, and is removed
once it can.
"""
