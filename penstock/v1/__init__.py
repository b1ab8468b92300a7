"""Stubs of the `penstock.v1` contract, generated from `protos/` by `make verify`'s generator; never edited by hand."""
