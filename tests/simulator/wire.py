"""A connection to Redis that does little besides: a seed makes a thousand calls, and nobody waits for any of them.

Commands, scripts and answers as `redis.Redis` has them; pipelines go the library's own way. A connection that breaks
ends the run.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any

import hiredis
import redis
import redis.exceptions

__all__ = ["Wire"]


class Wire(redis.Redis):
    """`url` names a socket file."""

    def __init__(self, url: str) -> None:
        path = url.removeprefix("unix://")
        super().__init__(unix_socket_path=path, single_connection_client=True, protocol=2)
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._reader = hiredis.Reader()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        options.pop("keys", None)  # for clusters
        # "SCRIPT LOAD" and the like are two words to a server.
        words = (*args[0].split(), *args[1:]) if " " in args[0] else args
        self._socket.sendall(hiredis.pack_command(words))
        answer = self._answer()
        known = self.response_callbacks.get(args[0])  # type: ignore[no-untyped-call]
        return answer if known is None else known(answer, **options)

    def close(self) -> None:
        self._socket.close()
        super().close()

    def together(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The bare answers of many commands, sent at once."""
        self._socket.sendall(b"".join([hiredis.pack_command(words) for words in commands]))
        return [self._answer() for _ in commands]

    def _answer(self) -> Any:
        answer = self._reader.gets()
        while answer is False:
            told = self._socket.recv(65_536)
            if not told:
                raise redis.exceptions.ConnectionError("Redis has closed the connection")
            self._reader.feed(told)
            answer = self._reader.gets()
        if isinstance(answer, hiredis.ReplyError):
            kind = redis.exceptions.NoScriptError if "NOSCRIPT" in str(answer) else redis.exceptions.ResponseError
            raise kind(str(answer))
        return answer
