"""Settings → who may ask: the database, the token of the file, the issuer.

What the settings say wrong is told at once (InvalidInput); a database that is away is not: the gateway serves, answers
503 to whoever asks, says so in /readyz, and tries again until it is there. Of several gateways that start at once one
migrates and the others wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib

from gateway.auth.failures import Failures
from gateway.auth.file_token import FileToken
from gateway.auth.identities import Identities
from gateway.auth.known import Known
from gateway.store.sessions import Sessions
from gateway.store.tokens import Tokens
from penstock.runtime.clock import Clock, SystemClock
from penstock.runtime.errors import PenstockError
from penstock.runtime.logs import get_logger
from penstock.runtime.schema import prepare
from penstock.runtime.settings import DatabaseSection, Settings
from penstock.runtime.sql import Database

__all__ = ["make_identities", "open_database"]

FIRST_DELAY_SECONDS = 0.1
MOST_DELAY_SECONDS = 5.0

log = get_logger("auth")


def make_identities(settings: Settings, clock: Clock | None = None) -> tuple[Identities, Database]:
    """Nothing is opened yet. Raises InvalidInput for settings that can't be."""
    clock = clock or SystemClock.start()
    section = settings.gateway
    database = Database.of(settings, "gateway")
    oidc = None
    if section.oidc.issuer:
        # PyJWT and cryptography weigh 6 MB: only whom an issuer is named pays for them.
        from gateway.auth.issuer import Issuer
        from gateway.auth.oidc import OidcTokens

        oidc = OidcTokens(
            Issuer(section.oidc.issuer, clock.monotonic),
            audience=section.oidc.audience,
            claim=section.oidc.role_claim,
            roles=section.oidc.roles,
        )
    identities = Identities(
        known=Known(Tokens(database), Sessions(database), clock),
        clock=clock,
        failures=Failures(clock.monotonic),
        file_token=FileToken(section.admin_token_file, clock.monotonic) if section.admin_token_file else None,
        oidc=oidc,
        session_hours=section.session_hours,
    )
    identities.wait("the gateway has not opened its database yet")
    return identities, database


async def open_database(
    identities: Identities, database: Database, stopping: asyncio.Event, section: DatabaseSection
) -> None:
    """Prepares it, however long it is away or older than we are, and lets people in."""
    delay = FIRST_DELAY_SECONDS
    while not stopping.is_set():
        try:
            await asyncio.to_thread(prepare, database, section)
        except Exception as error:
            if isinstance(error, PenstockError):
                identities.wait(error.message)
                log.warning("the gateway's database is not ready; trying again", error=error.message)
            else:
                identities.wait("its database can't be prepared, and its log says why")
                log.error("the gateway's database can't be prepared", error=str(error), exc_info=error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), delay)
            delay = min(delay * 2, MOST_DELAY_SECONDS)
            continue
        identities.wait(None)
        await _warn_of_nobody(identities)
        return


async def _warn_of_nobody(identities: Identities) -> None:
    with contextlib.suppress(PenstockError):
        if not identities.somebody_elsewhere and not await identities.tokens(before=None, size=1, ended=False):
            log.warning("nobody can come in: set gateway.admin_token_file, or gateway.oidc")
