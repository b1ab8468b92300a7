"""What `GET /api/v1/diagnosis` answers: each program's own word on what it needs, as plain JSON objects.

Facts alone; `penstock.doctor` judges them. `ahead_ms` is how far a clock is before that of who asked it: a program's
before the gateway's, a dependency's before its program's.
"""

from __future__ import annotations

from typing_extensions import TypedDict

from penstock.client.views import time_text
from penstock.client.worker_views import WorkerClassView
from penstock.v1 import diagnosis_pb2 as pb

__all__ = [
    "CertificateDatesView",
    "DependencyView",
    "DiagnosisView",
    "PoolView",
    "ProgramView",
    "RightView",
    "SchemaView",
    "program_away",
    "program_view",
]


class DependencyView(TypedDict):
    """problem: None where it answers as it should; ahead_ms: None where it has no clock of its own."""

    name: str
    problem: str | None
    answer_ms: int
    ahead_ms: int | None


class SchemaView(TypedDict):
    """revision: "" where there is none yet; own: what the program was made for; oldest_program: the least `own` that
    may work on it, None where that is not said."""

    revision: str
    own: str
    oldest_program: str | None


class CertificateDatesView(TypedDict):
    end_time: str
    authority_end_time: str
    refused: str | None


class RightView(TypedDict):
    """namespace, name: None for the whole cluster, for any object."""

    namespace: str | None
    verb: str
    resource: str
    name: str | None
    wanted: bool
    allowed: bool


class PoolView(TypedDict):
    """Connections to the server of the program's database: most that the program may have, that the server takes from
    everybody, and that it keeps of those for others. server: the same of all programs on one."""

    most: int
    server_most: int
    server_reserved: int
    server: str


class ProgramView(TypedDict):
    """problem: why it did not answer; then all that it would say is empty."""

    program: str
    problem: str | None
    version: str | None
    answer_ms: int
    ahead_ms: int | None
    dependencies: list[DependencyView]
    schema_state: SchemaView | None
    pool: PoolView | None
    certificate: CertificateDatesView | None
    rights: list[RightView]


class DiagnosisView(TypedDict):
    """now_ms: the gateway's clock, in ms since the epoch. classes: None where the scheduler did not say."""

    version: str
    now_ms: int
    programs: list[ProgramView]
    classes: list[WorkerClassView] | None


def program_view(told: pb.DiagnoseResponse, *, answer_ms: int, ahead_ms: int) -> ProgramView:
    certificate: CertificateDatesView | None = None
    if told.HasField("certificate"):
        certificate = {
            "end_time": time_text(told.certificate.end_time) or "",
            "authority_end_time": time_text(told.certificate.authority_end_time) or "",
            "refused": told.certificate.refused or None,
        }
    schema: SchemaView | None = None
    if told.HasField("schema"):
        schema = {
            "revision": told.schema.revision,
            "own": told.schema.own,
            "oldest_program": told.schema.oldest_program or None,
        }
    pool: PoolView | None = None
    if told.HasField("pool"):
        pool = {
            "most": told.pool.most,
            "server_most": told.pool.server_most,
            "server_reserved": told.pool.server_reserved,
            "server": told.pool.server,
        }
    return {
        "program": told.program,
        "problem": None,
        "version": told.version,
        "answer_ms": answer_ms,
        "ahead_ms": ahead_ms,
        "dependencies": [
            {
                "name": one.name,
                "problem": one.problem or None,
                "answer_ms": one.answer_ms,
                "ahead_ms": one.ahead_ms if one.HasField("ahead_ms") else None,
            }
            for one in told.dependencies
        ],
        "schema_state": schema,
        "pool": pool,
        "certificate": certificate,
        "rights": [
            {
                "namespace": one.namespace or None,
                "verb": one.verb,
                "resource": one.resource,
                "name": one.name or None,
                "wanted": one.wanted,
                "allowed": one.allowed,
            }
            for one in told.rights
        ],
    }


def program_away(name: str, problem: str, *, answer_ms: int) -> ProgramView:
    return {
        "program": name,
        "problem": problem,
        "version": None,
        "answer_ms": answer_ms,
        "ahead_ms": None,
        "dependencies": [],
        "schema_state": None,
        "pool": None,
        "certificate": None,
        "rights": [],
    }
