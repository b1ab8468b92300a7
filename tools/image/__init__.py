"""The container image: `make image`, or `python3 -m tools.image`.

`lock`, `trim` and `sbom` run inside of the build, by the base image's own Python; the others outside. All of it is
standard library alone, since neither place has anything else.
"""
