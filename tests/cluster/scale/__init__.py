"""Tier: hundreds of pods on simulated nodes."""
