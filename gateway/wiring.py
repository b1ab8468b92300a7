"""What routes get handed: the client of the services, the settings, and the event that says that we are draining."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from penstock.client.asynchronous import AsyncClient
from penstock.runtime.settings import Settings

__all__ = ["Parts", "Wired", "attach"]


@dataclass(frozen=True)
class Parts:
    client: AsyncClient
    settings: Settings
    stopping: asyncio.Event


def attach(app: FastAPI, parts: Parts) -> None:
    app.state.parts = parts


async def _parts(request: Request) -> Parts:
    parts: Parts = request.app.state.parts
    return parts


Wired = Annotated[Parts, Depends(_parts)]
