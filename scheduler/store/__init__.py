"""The scheduler's SQL: rows, the locked run as unit of work, hot statements for both dialects, reads."""
