"""What the scheduler may do at the API server, asked by itself, by the one table (penstock/runtime/rights.py): each
right of the chart's Role, and what it must not have. Asking takes no right of the Role: everybody may ask what he may
do.

An API server that does not answer, or refuses the question, raises Unavailable; nothing is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from penstock.runtime.errors import Unavailable
from penstock.runtime.rights import Question, questions
from penstock.v1 import diagnosis_pb2 as pb
from scheduler.backends.kubernetes.api import Api, Refused, Unanswered

__all__ = ["asked_rights"]


async def asked_rights(api: Api, namespace: str, owner: str) -> Sequence[pb.Right]:
    """Raises Unavailable."""

    async def ask(one: Question) -> pb.Right:
        return pb.Right(
            namespace=one.namespace,
            verb=one.right.verb,
            resource=one.right.resource,
            name=one.name,
            wanted=one.wanted,
            allowed=await api.call(partial(api.may_we, one.attributes())),
        )

    try:
        return await asyncio.gather(*map(ask, questions(namespace, owner)))
    except (Refused, Unanswered) as error:
        raise Unavailable(f"the API server does not say what the scheduler may do: {error}") from error
