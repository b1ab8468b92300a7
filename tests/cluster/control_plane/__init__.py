"""Tier: etcd, API server and controller manager; rights, admission, quota, and pods counted under every failure."""
