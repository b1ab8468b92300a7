"""Where state lies outside of our programs: blobs in a folder and in S3, PostgreSQL with roles, Redis with its ways in.

Real servers. The S3 server is built of Go modules on first use (about a minute); where there is no Go its tests are
skipped by name, and in CI they fail.
"""
