"""What every program of Penstock starts with: settings, logs, errors, gRPC, SQL, blobs, clock.

Nothing here knows what a run or a document is. It imports the generated stubs only where a transport needs them.
"""
