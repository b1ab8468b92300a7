"""Pure rules of the scheduler: no gRPC, no Redis, no SQL."""
