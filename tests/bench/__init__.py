"""Measures: speed and size of the whole, side by side in one run. `make bench` runs all of them (see `__main__`)."""
