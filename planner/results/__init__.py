"""What runs recorded, as a table beside every source: the planner's own copy, in Parquet.

An *outcome* is a settled item of a run, as the scheduler tells it in commit order. A *part* is a file of outcomes that
never changes. A *cursor* says how far a stage of a run was copied: a part and the cursors that it moves are one
transaction, so a planner that dies in between copies those outcomes again, and what stands twice counts once. A file is
announced before it is there: what never came to count goes as what was merged does. Parts of one size are merged when
there are many, as in a log-structured tree; files that were merged stay for an hour, for who reads them still.
Results may be long: nothing here takes more of them at once than memory holds.

Of each (source, key, processor) the latest outcome by its end is *the result*. Nothing is read of the scheduler's
database but what changed since the cursors; an archived run is told once more at most.

The copy may be behind: `Results.catch_up` is awaited before a selection that reads results. While the scheduler can't
be reached it raises Unavailable: a selection by old results would leave out, or do twice, what nobody could tell.
"""
