"""The analyzer: what is in these documents?

AnalyzeDocuments says of each text how likely a model wrote it, segment by segment and with reasons, and makes the
sketch that collections are computed from. It stores nothing: its answer is the outcome.

AnalyzeCollection reads the documents of a run (their sketches, from the outcomes' blobs), finds clusters, neighbours,
near-duplicates and shared passages, and keeps the result under the run's id in one transaction. The same documents
give the same collection, in whatever order they come; a second call replaces it with the same.

What fails: nothing is held between calls, so a restart loses only calls under way, and whoever called calls again.
While SQL, the blob folder or the embedding provider can't be used, calls answer UNAVAILABLE and name what is missing.
A batch past its size is refused whole (OUT_OF_RANGE); a single odd text is never an error, only UNCERTAIN.
"""
