from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from penstock.client import AsyncClient
from tests.integration.client.services import Services, serving


@pytest.fixture
async def services(tmp_path: Path) -> AsyncIterator[Services]:
    async with serving(tmp_path) as one:
        yield one


@pytest.fixture
async def client(services: Services) -> AsyncIterator[AsyncClient]:
    async with services.client() as one:
        yield one
