"""What routes get handed: the client of the services, the settings, and the event that says that we are draining."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, Request

from gateway.auth.roles import Principal
from penstock.client.asynchronous import AsyncClient
from penstock.runtime.settings import Settings

if TYPE_CHECKING:
    from gateway.auth.identities import Identities
    from penstock.runtime.sql import Database

__all__ = ["Asking", "Parts", "Wired", "attach"]


@dataclass(frozen=True)
class Parts:
    client: AsyncClient
    settings: Settings
    stopping: asyncio.Event
    identities: Identities | None = None
    """Who may ask; None: nobody is asked who they are."""
    database: Database | None = None
    """The gateway's own, where it has one."""


def attach(app: FastAPI, parts: Parts) -> None:
    app.state.parts = parts


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


Wired = Annotated[Parts, Depends(_parts)]


async def _principal(request: Request) -> Principal | None:
    found: Principal | None = request.scope.get("principal")
    return found


Asking = Annotated[Principal | None, Depends(_principal)]
"""Who asks; None where nobody is asked who they are."""
