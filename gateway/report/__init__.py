"""The report of a job: one page that needs nothing else."""
