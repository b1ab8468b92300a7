// The programs of the cluster for tests: see ../__init__.py.
module penstock.test/probe

go 1.26.0
