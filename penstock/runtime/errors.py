"""The errors that users see, and the one mapping between them, gRPC status and HTTP status.

A domain error declares its `code` (stable, snake case: what programs match on), its gRPC status, its HTTP status and
the level at which the server logs it. The server interceptor turns it into a status with a `google.rpc.ErrorInfo`; the
client turns that back into the same class. Anything else that escapes a handler is a defect: logged with its trace,
answered as `internal`.
"""

from __future__ import annotations

import logging
from typing import ClassVar

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

__all__ = [
    "AlreadyExists",
    "Conflict",
    "Internal",
    "InvalidInput",
    "NotFound",
    "Overloaded",
    "PenstockError",
    "PermissionDenied",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "from_rpc_error",
    "to_status",
]

DOMAIN = "penstock"
STATUS_KEY = "grpc-status-details-bin"
EARLY_STATUS_KEY = "penstock-status-bin"
"""The same in a call's initial metadata, for streamed requests: when a message is on its way while the server refuses,
grpc.aio puts the message's failure (INTERNAL) in place of the server's status, but keeps the initial metadata."""


class PenstockError(Exception):
    """Something that a user did or meets, told in one sentence: what, where, and what would be right. `cause` says in a
    few words what is wrong with a part that is needed: for readiness, which anybody may ask, so it names nobody."""

    status: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    http_status: ClassVar[int] = 500
    log_level: ClassVar[int] = logging.ERROR
    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, code: str | None = None, cause: str = "", **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.cause = cause
        self.metadata = metadata


class InvalidInput(PenstockError):
    """Input that is refused whole; nothing of it was kept."""

    status = grpc.StatusCode.INVALID_ARGUMENT
    http_status = 400
    log_level = logging.INFO
    default_code = "invalid_input"


class TooLarge(PenstockError):
    """More bytes or rows than the settings allow."""

    status = grpc.StatusCode.OUT_OF_RANGE
    http_status = 413
    log_level = logging.INFO
    default_code = "too_large"


class NotFound(PenstockError):
    status = grpc.StatusCode.NOT_FOUND
    http_status = 404
    log_level = logging.INFO
    default_code = "not_found"


class AlreadyExists(PenstockError):
    status = grpc.StatusCode.ALREADY_EXISTS
    http_status = 409
    log_level = logging.INFO
    default_code = "already_exists"


class Conflict(PenstockError):
    """The state does not allow it; the message says the state and what is allowed."""

    status = grpc.StatusCode.FAILED_PRECONDITION
    http_status = 409
    log_level = logging.INFO
    default_code = "conflict"


class Unauthenticated(PenstockError):
    status = grpc.StatusCode.UNAUTHENTICATED
    http_status = 401
    log_level = logging.WARNING
    default_code = "unauthenticated"


class PermissionDenied(PenstockError):
    status = grpc.StatusCode.PERMISSION_DENIED
    http_status = 403
    log_level = logging.WARNING
    default_code = "permission_denied"


class Overloaded(PenstockError):
    """A bounded queue is full; try again after a moment."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    http_status = 429
    log_level = logging.WARNING
    default_code = "overloaded"


class Unavailable(PenstockError):
    """A part that is needed (SQL, Redis, a service, the disk) can't be reached or used just now."""

    status = grpc.StatusCode.UNAVAILABLE
    http_status = 503
    log_level = logging.WARNING
    default_code = "unavailable"


class Internal(PenstockError):
    """A defect of ours."""


_BY_STATUS: dict[grpc.StatusCode, type[PenstockError]] = {
    cls.status: cls
    for cls in (
        InvalidInput,
        TooLarge,
        NotFound,
        AlreadyExists,
        Conflict,
        Unauthenticated,
        PermissionDenied,
        Overloaded,
        Unavailable,
        Internal,
    )
}

_BY_NUMBER = {status.value[0]: status for status in _BY_STATUS}


def to_status(error: PenstockError) -> status_pb2.Status:
    """The `google.rpc.Status` of an error, with its code and metadata as an ErrorInfo."""
    info = error_details_pb2.ErrorInfo(reason=error.code, domain=DOMAIN, metadata=error.metadata)
    detail = any_pb2.Any()
    detail.Pack(info)
    number: int = error.status.value[0]
    return status_pb2.Status(code=number, message=error.message, details=[detail])


def from_rpc_error(error: grpc.aio.AioRpcError) -> PenstockError:
    """What the server meant, as the class that it raised."""
    status = error.code()
    message = error.details() or status.name.lower()
    code: str | None = "deadline_exceeded" if status is grpc.StatusCode.DEADLINE_EXCEEDED else None
    metadata: dict[str, str] = {}
    told = _told(error)
    if told is not None:
        status, message = _BY_NUMBER.get(told.code, status), told.message
        for detail in told.details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                code = info.reason
                metadata = dict(info.metadata)
    cls = _BY_STATUS.get(status, Unavailable if status is grpc.StatusCode.DEADLINE_EXCEEDED else Internal)
    result = cls(message, code=code)
    result.metadata = metadata
    return result


def _told(error: grpc.aio.AioRpcError) -> status_pb2.Status | None:
    for sent, name in ((error.trailing_metadata(), STATUS_KEY), (error.initial_metadata(), EARLY_STATUS_KEY)):
        for key, value in sent or ():
            if key == name and isinstance(value, bytes):
                return status_pb2.Status.FromString(value)
    return None
