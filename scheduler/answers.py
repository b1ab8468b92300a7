"""The answer to an acquire: granted leases with their items' payloads, large ones as blobs.

The grant is durable before this begins, and nothing here changes it. When an item can't be read, or the blob store
can't be used, the call fails; the worker asks again under the same grant number, and gets the same leases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from penstock.processor import INLINE_BYTES
from penstock.runtime import metrics
from penstock.runtime.blobs import BlobStore
from penstock.v1 import scheduler_pb2 as pb
from scheduler.open_stage import OpenStage
from scheduler.ready import StageKey
from scheduler.store.leases import GrantedBatch
from scheduler.windows import Windows

__all__ = ["Answers"]


ANSWER_BYTES = 16 << 20
"""Of payloads in one answer; what is over goes as blobs, so that any number of leases fits a message."""


class Answers:
    def __init__(self, windows: Windows, blobs: BlobStore, term_seconds: float) -> None:
        self._windows = windows
        self._blobs = blobs
        self._term_seconds = term_seconds

    async def response(
        self, batches: Sequence[GrantedBatch], opened: Mapping[StageKey, OpenStage]
    ) -> pb.AcquireResponse:
        """The answer with payloads; `opened` are the stages as they were when the proposals were made."""
        response = pb.AcquireResponse(term_seconds=self._term_seconds)
        large: list[tuple[pb.Lease, bytes]] = []
        room = ANSWER_BYTES
        for batch in batches:
            key = batch.stage.run, batch.stage.stage
            # Granted before a restart, its window may not be open: its items are read for this answer alone.
            stage = opened.get(key) or OpenStage(key, batch.run_id, batch.plan_id, -1, batch.stage)
            # More than once: while some are read, others may be let go for want of memory.
            while missing := [g.seq for g in batch.granted if g.seq not in stage.items]:
                await self._windows.read_missing(stage, missing)
            out = response.batches.add(
                run_id=batch.run_id,
                stage=batch.stage.stage,
                processor=batch.processor,
                parameters=batch.parameters,
                max_run_seconds=batch.stage.max_run_seconds,
                mode=batch.mode,
                budgeted=batch.budgeted,
            )
            add = out.leases.add
            metrics.LEASES_GRANTED.labels(batch.stage.processor).inc(len(batch.granted))
            for granted in batch.granted:
                item = self._windows.granted(stage, granted.seq)
                payload = item.payload
                size = len(payload)
                inline = size <= INLINE_BYTES and size <= room
                # Each value that is named costs, also where it is nothing; most leases are a first attempt.
                lease = add(
                    seq=granted.seq,
                    attempt=granted.attempt,
                    key=item.key,
                    reserved_micros=granted.reserved_micros,
                    payload=payload if inline else b"",
                )
                if item.group:
                    lease.group = item.group
                if granted.was is not None or granted.attempt > 1:
                    lease.tries, lease.alone, lease.heals = granted.tries, granted.alone, granted.heals
                    lease.context, lease.saved = granted.context or b"", granted.saved or b""
                if inline:
                    room -= size
                else:
                    large.append((lease, payload))
        if large:
            refs = await asyncio.to_thread(self._blobs.put_many, [payload for _, payload in large])
            for (lease, _), ref in zip(large, refs, strict=True):
                lease.payload_blob.CopyFrom(ref)
        return response
