"""The programs of the cluster: each a class that starts and stops them. Only inside of a box (`tests/cluster/box`)."""
