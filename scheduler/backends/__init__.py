"""Who starts workers. One interface, one conformance suite; `process` starts local processes."""
