"""The event loop that a client without one lends itself: in a thread of its own, one for each client."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

__all__ = ["Loop"]

T = TypeVar("T")

STOP_SECONDS = 2.0


class Loop:
    """Runs calls for other threads, one after the other or at once."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="penstock-client", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncIterator[T]) -> Iterator[T]:
        async def following() -> tuple[bool, T | None]:
            try:
                return True, await anext(items)
            except StopAsyncIteration:
                return False, None

        try:
            while True:
                more, item = self.run(following())
                if not more:
                    return
                yield item  # type: ignore[misc]  # None only where T has it
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                with contextlib.suppress(RuntimeError):  # interrupted: it is being cancelled, which closes it too
                    self.run(close())

    def stop(self) -> None:
        async def settle() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=STOP_SECONDS)

        # After an interrupt calls may still be on their way out: what they leave would complain at exit.
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(settle(), self._loop).result(2 * STOP_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._loop.is_running():
            self._loop.close()
