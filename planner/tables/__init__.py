"""Catalogs and tables: from bytes as they were sent, or a database, to a version that is kept.

A reader's path: `process` starts a child for each table (reading foreign files in the planner would let one of them
take its memory or its life), `__main__` is that child, `reading` goes through the steps: unpack (`unpacking`), tell
the format (`formats`), make every format a relation of texts (`csv_part`, `jsonl_part`, `parquet_part`, `databases`),
find the columns' kinds (`profile`, by the rules of `planner.domain.table_kinds`), write the snapshot (`snapshot`),
check keys (`keys`), take its id and its statistics (`identity`, `statistics`). `difference` compares two snapshots.

DuckDB reads everything that is as it should be. Where it stumbles, a slow pass in Python (`csv_rows`, `jsonl_rows`)
finds the line and the column, and makes a file without the bad rows where those may be skipped. Whatever is refused is
refused whole: everything that a table makes lies in the upload's folder until its version is complete.
"""
