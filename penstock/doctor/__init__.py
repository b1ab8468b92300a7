"""What is wrong with a Penstock, and which command mends it: `penstock cluster doctor`.

    findings.py   what a check came to: ok, warn, fail or not looked at, and the command that mends it
    programs.py   judges what the programs say of themselves (GET /api/v1/diagnosis)
    connections.py  judges whether their pools find room at the database's server
    cluster.py    judges what the API server says of a release     pods.py, quotas.py, secrets.py   parts of that
    facts.py      what was seen of a release in a cluster          reading.py  sees it, by the operator's own kubeconfig

Judging is pure: facts in, findings out. Seeing changes nothing: it gets and lists, and asks for rights.
"""
