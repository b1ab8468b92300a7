"""Pure rules of the planner: names, archives' directories, JSONL rows, stages. No gRPC, Redis, SQL, HTTP."""
