"""Mutual TLS between programs: real handshakes, real programs."""
