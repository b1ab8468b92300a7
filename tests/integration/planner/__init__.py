"""The planner behind its gRPC methods, on SQLite and PostgreSQL."""
