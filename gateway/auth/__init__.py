"""Who asks, and may they? Roles, the table of routes, API tokens, sessions and the bearer tokens of an OIDC issuer.

In here only where `gateway.auth` is `tokens`; with `none` nothing of it is in the way. `rules` is the one table of
which role a route needs, `identities` says who a credential is, `door` puts both before every route. What can't be
decided is refused: a database or an issuer that is away is a 503, never a way in.
"""
