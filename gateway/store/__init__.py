"""What the gateway keeps: API tokens and the sessions of browsers, in its own database. Opened only where
`gateway.auth` is `tokens`. No secret is in it: of each there is a SHA-256 alone."""
