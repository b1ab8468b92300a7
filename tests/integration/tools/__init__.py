"""The tools of the project that need a socket."""
