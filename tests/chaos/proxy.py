"""A proxy between workers and schedulers: it spreads connections, and cuts them after a request has gone through."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading

__all__ = ["Proxy"]


class Proxy:
    """Listens on a port of its own, in a thread of its own. `cut` closes every connection in the moment after the next
    bytes have been passed on to the scheduler: the call arrives, its answer does not."""

    def __init__(self, backends: list[int], source: random.Random) -> None:
        self.port = 0
        self.cuts = 0
        self._backends = backends
        self._random = source
        self._cutting = False
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        threading.Thread(target=self._run, name="proxy", daemon=True).start()
        self._ready.wait(10)

    def cut(self) -> None:
        self._cutting = True

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports = self._random.sample(self._backends, len(self._backends))
        for port in ports:
            with contextlib.suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", port)
                break
        else:
            writer.close()
            return
        self._open |= {writer, back}
        up = asyncio.ensure_future(self._pass(reader, back, cuts=True))
        down = asyncio.ensure_future(self._pass(there, writer, cuts=False))
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for one in (writer, back):
            self._open.discard(one)
            one.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, cuts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
                if cuts and self._cutting and len(data) > 60:  # a request, and no bare acknowledgement
                    self._cutting = False
                    self.cuts += 1
                    for one in list(self._open):
                        one.close()
                    return
