"""Bearer tokens of an OIDC issuer: signature, issuer, audience and times are checked, then a claim gives the role.

Nothing is kept of them. They can't be revoked here: they end when they say (`exp`), which the issuer keeps short.
"""

from __future__ import annotations

from collections.abc import Mapping

import jwt

from gateway.auth.issuer import ALGORITHMS, Issuer
from gateway.auth.roles import Principal, Role
from penstock.runtime.errors import PermissionDenied, Unauthenticated
from penstock.runtime.plain_text import MAX_CHARACTERS

__all__ = ["LEEWAY_SECONDS", "OidcTokens"]

LEEWAY_SECONDS = 60
"""Clocks may be so far apart."""
MOST_CHARACTERS = 8_192
NEEDED = ["exp", "iss", "aud", "sub"]

_SENTENCES: tuple[tuple[type[jwt.PyJWTError], str, str], ...] = (
    (jwt.ExpiredSignatureError, "token_expired", "the token has expired: sign in again at {issuer}"),
    (jwt.ImmatureSignatureError, "token_unknown", "the token is not valid yet: are the clocks right?"),
    (jwt.InvalidAudienceError, "token_unknown", "the token is for somebody else: its audience must be {audience!r}"),
    (jwt.InvalidIssuerError, "token_unknown", "the token is of another issuer: {issuer} is asked here"),
    (jwt.MissingRequiredClaimError, "token_unknown", "the token lacks a claim: " + ", ".join(NEEDED) + " are needed"),
    (jwt.InvalidSignatureError, "token_unknown", "the token's signature is not of its issuer"),
)


class OidcTokens:
    def __init__(self, issuer: Issuer, *, audience: str, claim: str, roles: Mapping[str, str]) -> None:
        """claim: a name, or a path with dots, of a text or a list of texts; roles: such a text -> our role."""
        self._issuer = issuer
        self._audience = audience
        self._claim = claim
        self._roles = {value: Role.of(word) for value, word in roles.items()}

    @staticmethod
    def looks_like(credential: str) -> bool:
        return credential.count(".") == 2 and len(credential) <= MOST_CHARACTERS

    async def principal(self, credential: str) -> Principal:
        """Raises Unauthenticated, PermissionDenied for a person without a role, Unavailable while keys are away."""
        try:
            head = jwt.get_unverified_header(credential)
        except jwt.PyJWTError:
            raise Unauthenticated("what was sent is no token of ours and no JWT", code="token_unknown") from None
        algorithm = str(head.get("alg"))
        if algorithm not in ALGORITHMS:
            raise Unauthenticated(
                f"the token is signed by {algorithm[:40]!r}: {' and '.join(ALGORITHMS)} are taken", code="token_unknown"
            )
        key = await self._issuer.key(str(head.get("kid", "")), algorithm)
        try:
            claims = jwt.decode(
                credential,
                key.key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer.url,
                leeway=LEEWAY_SECONDS,
                options={"require": NEEDED},
            )
        except jwt.PyJWTError as error:
            raise self._refused(error) from None
        subject = str(claims["sub"])
        if not 0 < len(subject) <= MAX_CHARACTERS or not subject.isprintable():
            raise Unauthenticated(
                f"the token's subject is no name: 1 to {MAX_CHARACTERS} printable characters are", code="token_unknown"
            )
        expire_ms = (int(claims["exp"]) + LEEWAY_SECONDS) * 1000
        return Principal(subject, self._role(claims, subject), "oidc", expire_ms)

    def _refused(self, error: jwt.PyJWTError) -> Unauthenticated:
        for kind, code, sentence in _SENTENCES:
            if isinstance(error, kind):
                return Unauthenticated(sentence.format(issuer=self._issuer.url, audience=self._audience), code=code)
        return Unauthenticated("the token can't be read as one of the issuer's", code="token_unknown")

    def _role(self, claims: Mapping[str, object], subject: str) -> Role:
        """The highest that the claim gives."""
        found: object = claims.get(self._claim)
        if found is None:
            found = claims
            for name in self._claim.split("."):
                found = found.get(name) if isinstance(found, Mapping) else None
        values = found if isinstance(found, list) else [found]
        roles = [self._roles[value] for value in values if isinstance(value, str) and value in self._roles]
        if not roles:
            raise PermissionDenied(
                f"{subject} has no role here: the claim {self._claim!r} of the token must have one of "
                f"{', '.join(sorted(self._roles))} (setting gateway.oidc.roles)",
                code="no_role",
            )
        return max(roles)
