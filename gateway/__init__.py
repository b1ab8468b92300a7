"""The gateway: who is asking, and in what form do they want it? HTTP, server-sent events and a page, over gRPC.

It validates, calls and translates. No rule of the core lives here: bytes of an upload go straight on to the planner,
states and counts come from the scheduler, collections from the analyzer, and the documents contract is composed by
`penstock.client`.

Where `gateway.auth` is `tokens` it knows who asks (`gateway.auth`): tokens and sessions are rows of its own database,
and it owns nothing else.

States: serving, or draining after SIGTERM (event streams are closed, requests under way may finish within seconds).
It keeps nothing in memory that matters, so it may die at any instant: an upload that was under way leaves nothing
behind, an event stream is taken up again by `Last-Event-ID`. While a service is away, requests that need it wait for
some seconds and then answer 503; `/healthz` stays 200, `/readyz` says who is away and why.
"""
