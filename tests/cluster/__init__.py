"""The cluster for tests: a real Kubernetes in a box, on a machine without containers, registries or clusters.

`python -m tests.cluster [TIER…] [-- ARGUMENTS OF PYTEST]` (`make test-cluster`) runs the tiers of `tiers.py`. A tier is
a folder of ordinary pytest files here; each runs in a box of its own (`box/`: namespaces that take everything along).
Outside of a box none of these files is collected (`conftest.py`).

What a test asks for, as fixtures that last for the tier:

`control_plane` (tests.cluster.programs.control_plane.ControlPlane): etcd, API server, controller manager.
    .url, .certificate_authority, .kubeconfig     where it is, and an administrator's kubeconfig (a path)
    .namespace(name, labels={…})                  makes one that pods can start in
    .apply({…}, {…})                              objects, server-side; AssertionError when refused
    .kubectl("get", "pods", …), .try_kubectl(…)   text, or returncode / stdout / stderr; kubeconfig=… for whom
    .client(kubeconfig=None)                      httpx.Client on the API, for whom the kubeconfig names
    .client_kubeconfig(user, groups=[…])          a made-up user's: has the rights that roles give
    .account_kubeconfig(namespace, account)       a service account's
    .audited()                                    calls of users and service accounts of tests, as audit events
    .etcd, .api_server, .controller_manager       daemons: .kill() .freeze() .thaw() .stop() .start() .pid .log
    .ready(), .wait_ready()                       whether /readyz says ok; after a kill: start, then wait
`node_cluster` (tests.cluster.programs.node.Node): `.control_plane` and one real node with network, services and names.
    .load(archive), .images(), IMAGE              images from docker archives; IMAGE is loaded: waits, serves, asks
    .wait_pod(namespace, name, seconds=60)        until Ready, or AssertionError with the pod's events
    .kubelet, .containerd, .kube_proxy, .coredns, .scheduler   daemons
`product` (tests.cluster.node.product.Product; tiers node, faults): all of it as pods, on examples/cluster's stores.
    .start(items, worker_class=…, parameters={…}) its id; .wait(run_id), .until(run_id, right, …), .run, .items, .events
    .get(path), .post(path, body), .http          the gateway's /api/v1 with the first admin token
    .cli("workers", "list")                       what `penstock …` prints in the operator's pod
    .pods("scheduler"), .worker_pods(CLASS)       as the API has them; .namespace, .workers: where
    .watching(name)                               worker pods each 100 ms, as a picture; more than the limit fail
    .upgrade(values), .helm(…), .values           another state of the release; .wait_ready() afterwards
    .stores                                       .sql(text), .wait_ready(); pods app=postgresql, app=redis, app=blobs
    CLASS, MOST_PODS, SLOTS; SINGLE               the worker class of most tests; one of at most one pod
`simulated_nodes` (tests.cluster.programs.kwok.SimulatedNodes; tier scale, or made by a test on its control plane):
    .control_plane, .kwok, .scheduler, .wait_pods(namespace, count); SIMULATED: label and taint of its nodes
`tests.cluster.showing`: show(name, text) leaves a table or picture that the report names, tell(name, text) lines that
it says.
Host programs that tests start reach the API at 127.0.0.1:6443 or HOST:6443, and pods reach them at
tests.cluster.box.place.HOST. Nothing reaches the network outside, and nothing needs to be stopped for the next run.
"""
