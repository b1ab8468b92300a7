"""A program's part of `penstock cluster doctor`: it asks each thing that it needs, and tells what it found.

Nothing is judged here (`penstock.doctor` does that), and nothing is kept: each call asks anew, all things side by side,
each for at most `PROBE_SECONDS`. What fails becomes a sentence in the answer, never an error of the call.

A probe of the blob store writes a blob of a few bytes and removes it; a death in between leaves it there.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import grpc
import sqlalchemy as sa

from penstock import __version__
from penstock.runtime.blobs import BlobStore
from penstock.runtime.errors import PenstockError, Unavailable
from penstock.runtime.schema import newest, read_schema
from penstock.runtime.sql import Database
from penstock.runtime.tls import Identity, Proof
from penstock.v1 import diagnosis_pb2 as pb
from penstock.v1 import diagnosis_pb2_grpc

__all__ = ["NAME", "PROBE_SECONDS", "Diagnosing", "Probe", "blobs_probe"]

NAME = "penstock.v1.DiagnosisService"
PROBE_SECONDS = 5.0
PROBE_BYTES = 24

T = TypeVar("T")
Probe = Callable[[], Awaitable[float | None]]
"""Uses what the program needs. Answers its clock (ms since the epoch), None where it has none; raises what is wrong."""
Rights = Callable[[], Awaitable[Sequence[pb.Right]]]

# What time it is there.
_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp()) * 1000")
# How many connections it takes, how many of them are not for us, and when it was started: no two servers at one time.
_ROOM = sa.text(
    "SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int"
    " + coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int,"
    " extract(epoch FROM pg_postmaster_start_time())::text"
)


class Diagnosing(diagnosis_pb2_grpc.DiagnosisServiceServicer):
    """probes: name of what is needed -> how it is used, beside the database (`sql`). rights: what the API server lets
    the program do. now: the machine's clock, in seconds."""

    def __init__(
        self,
        program: str,
        *,
        database: Database | None = None,
        proof: Proof = None,
        probes: Mapping[str, Probe] | None = None,
        rights: Rights | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.program = program
        self._database = database
        self._identity = proof if isinstance(proof, Identity) else None
        self._probes = dict(probes or {})
        if database is not None:
            self._probes = {"sql": partial(asyncio.to_thread, _database_time, database), **self._probes}
        self._rights = rights
        self._now = now

    async def Diagnose(
        self, request: pb.DiagnoseRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.DiagnoseResponse:
        return await self.diagnose()

    async def diagnose(self) -> pb.DiagnoseResponse:
        """Raises nothing."""
        answer = pb.DiagnoseResponse(program=self.program, version=__version__)
        found, schema, pool, rights = await asyncio.gather(
            asyncio.gather(*(self._probed(name, probe) for name, probe in self._probes.items())),
            self._schema(),
            self._pool(),
            self._asked_rights(),
        )
        answer.dependencies.extend(found)
        if schema is not None:
            answer.schema.CopyFrom(schema)
        if pool is not None:
            answer.pool.CopyFrom(pool)
        if isinstance(rights, pb.Dependency):
            answer.dependencies.append(rights)
        else:
            answer.rights.extend(rights)
        if self._identity is not None:
            _tell_certificate(self._identity, answer.certificate, self._now())
        answer.now.FromNanoseconds(round(self._now() * 1e9))
        return answer

    async def _probed(self, name: str, probe: Probe) -> pb.Dependency:
        told = pb.Dependency(name=name)
        began, asked = self._now(), time.monotonic()
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                theirs_ms = await probe()
        except TimeoutError:
            told.problem = f"no answer in {PROBE_SECONDS:g} s"
        except Exception as error:  # whatever it is, the rest of the answer is wanted all the same
            told.problem = _sentence(error)
        else:
            seconds = time.monotonic() - asked
            if theirs_ms is not None:
                told.ahead_ms = round(theirs_ms - (began + seconds / 2) * 1000)
        told.answer_ms = round((time.monotonic() - asked) * 1000)
        return told

    async def _schema(self) -> pb.Schema | None:
        return None if self._database is None else await self._read(_schema_state, self._database)

    async def _pool(self) -> pb.Pool | None:
        if self._database is None or self._database.is_sqlite:
            return None
        return await self._read(_room, self._database)

    async def _read(self, what: Callable[[Database], T], database: Database) -> T | None:
        """What the database says in time; None where it does not."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await asyncio.to_thread(what, database)
        except Exception:  # its probe says why, where it is not this question alone
            return None

    async def _asked_rights(self) -> Sequence[pb.Right] | pb.Dependency:
        if self._rights is None:
            return []
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await self._rights()
        except TimeoutError:
            return pb.Dependency(name="rights", problem=f"no answer in {PROBE_SECONDS:g} s")
        except Exception as error:
            return pb.Dependency(name="rights", problem=_sentence(error))


def blobs_probe(blobs: Callable[[], BlobStore]) -> Probe:
    """Writes, reads and removes a blob of its own; the store is opened when it is first asked for."""

    def use() -> None:
        store = blobs()
        data = b"penstock doctor " + secrets.token_bytes(PROBE_BYTES)
        ref = store.put(data)
        try:
            if store.get(ref.sha256) != data:
                raise Unavailable(f"the blob store {store.told} gives back other bytes than it took")
        finally:
            store.remove(ref.sha256)

    async def probe() -> None:
        await asyncio.to_thread(use)

    return probe


def _database_time(database: Database) -> float | None:
    with database.read() as connection:
        if database.is_sqlite:  # on this machine, by its clock
            connection.execute(sa.text("SELECT 1"))
            return None
        return float(connection.execute(_NOW).scalar_one())


def _schema_state(database: Database) -> pb.Schema:
    state = read_schema(database)
    return pb.Schema(revision=state.revision, own=newest(database.service), oldest_program=state.oldest_program)


def _room(database: Database) -> pb.Pool:
    with database.read() as connection:
        most, reserved, server = connection.execute(_ROOM).one()
    return pb.Pool(most=database.most_connections, server_most=most, server_reserved=reserved, server=server)


def _tell_certificate(identity: Identity, dates: pb.CertificateDates, now: float) -> None:
    identity.look()
    dates.end_time.FromSeconds(round(now + identity.left_seconds()))
    dates.authority_end_time.FromSeconds(round(now + identity.authority_left_seconds()))
    dates.refused = identity.refused


def _sentence(error: Exception) -> str:
    return error.message if isinstance(error, PenstockError) else f"{type(error).__name__}: {error}"
