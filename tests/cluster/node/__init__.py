"""Tier: a whole cluster of one real node."""
