"""Tier `faults`: the whole product on one real node, and what is done to it."""
