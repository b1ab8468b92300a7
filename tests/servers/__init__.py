"""Real servers for tests: Redis, PostgreSQL, and all of Penstock by `penstock up`. None of them is ever faked."""
