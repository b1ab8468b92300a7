"""The child of the sandbox. Imports nothing of ours but itself and `planner.sandbox.frames`; never run in the planner.

What it gives up, in this order, before it looks at the query (`confinement`):

- its network and its file tree, where it is root, and then being root: it goes on as a user without rights;
- every access to files by name, and connections by TCP (Landlock, where the kernel has it);
- new file descriptors of any kind: it keeps the pipe for its answer, and the snapshots, opened by the planner to read;
- new processes and threads, growing files, core dumps, more memory or processor time than it was given.

So DuckDB reads the snapshots through descriptors (`files`): no path of a file that is really there can be opened. Then
the text is parsed and must be one SELECT of what is listed (`statement`), and runs in a DuckDB without file system,
extensions, threads, temporary files, or a setting that could still be changed (`engine`).
"""
