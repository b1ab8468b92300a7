"""The cluster for tests."""
