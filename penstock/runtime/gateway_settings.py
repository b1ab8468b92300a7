"""The gateway's section of the settings: where it serves HTTP, who may ask, and whose tokens it takes."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from penstock.runtime.setting_types import Port, Section
from penstock.runtime.setting_urls import DatabaseUrl

__all__ = ["GatewaySection", "OidcSettings"]


def _issuer(value: str) -> str:
    """Keys that come without TLS could be anybody's."""
    url = urlsplit(value)
    local = url.hostname in ("127.0.0.1", "::1", "localhost")
    if value and not (url.hostname and (url.scheme == "https" or (url.scheme == "http" and local))):
        raise ValueError("begins with https://")
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError("is an address or a network, as 10.0.0.0/8") from None
    return value


class OidcSettings(Section):
    """Whose bearer tokens (JWTs) are taken beside our own."""

    issuer: Annotated[str, AfterValidator(_issuer)] = Field(
        "", description="URL of the OIDC issuer, exactly as its tokens name it; empty: none."
    )
    audience: str = Field("", description="What tokens must have as their audience; needed with an issuer.")
    role_claim: str = Field("roles", min_length=1, description="The claim that gives the role; dots lead into objects.")
    roles: dict[str, Literal["viewer", "operator", "admin"]] = Field(
        default_factory=dict,
        description='What the claim may say, and the role of each, as {"sre": "admin", "staff": "viewer"}; the highest '
        "counts. Needed with an issuer.",
    )

    @model_validator(mode="after")
    def _whole(self) -> OidcSettings:
        if self.issuer and not (self.audience and self.roles):
            raise ValueError("an issuer needs audience and roles: else nobody, or anybody, could come in")
        return self


class GatewaySection(Section):
    host: str = Field("127.0.0.1", description="Address of the HTTP server; any but loopback needs auth = tokens.")
    port: Port = Field(8420, description="Port of the HTTP server.")
    metrics_port: Port = Field(0, description="Port of Prometheus metrics at metrics_host, beside /metrics; 0: none.")
    cors_origins: tuple[str, ...] = Field((), description="Foreign origins that may call the HTTP API.")
    auth: Literal["none", "tokens"] = Field(
        "none", description="Who may ask: whoever reaches loopback, or who has a token or a session."
    )
    database_url: DatabaseUrl = Field(
        "", description="sqlite:///FILE or postgresql://…; the gateway's own, needed with auth = tokens."
    )
    admin_token_file: Path | None = Field(
        None, description="File with the first admin token, of at least 32 characters; changing it changes the token."
    )
    session_hours: float = Field(12.0, ge=0.01, le=720, description="A browser is signed in for so long at most.")
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        (), description="Addresses or networks of proxies whose X-Forwarded-For is believed: for counting failures."
    )
    tls_folder: Path | None = Field(
        None,
        description="Folder with tls.crt and tls.key: HTTPS. They are read again when they change.",
    )
    oidc: OidcSettings = Field(default_factory=lambda: OidcSettings())

    def proxies(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return [ipaddress.ip_network(one) for one in self.trusted_proxies]
