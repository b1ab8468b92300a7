"""What pods there are, as the API server says: a list, then a watch from it, and a list again each minute.

Runs in a thread of its own, since it waits on a stream; what it learns is handed to the event loop, where `pods` and
`fresh` change. What ended is kept apart (`gone`) until somebody has taken it.

Failure story: a stream that breaks off, an event that is an error (410: too old), an answer that never comes or that
can't be read: it begins with a list again, after a pause that grows until a watch has brought something or has ended as
it should. Meanwhile the view is not `fresh`; a first 410 is listed again at once, and nobody notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from penstock.runtime.logs import get_logger
from penstock.runtime.pauses import doubled
from scheduler.backends.kubernetes.api import Api, Refused, Unanswered
from scheduler.domain.pod_status import pod_of, refusal_of
from scheduler.domain.pods import Pod, Trouble

__all__ = ["View"]

LIST_SECONDS = 60.0
WATCH_SECONDS = 15
"""A stream that says nothing any more, though the server answers, is believed for so long."""
SHORT_SECONDS = 1.0
"""A stream that ends at once with nothing in it is not asked for again at once."""
FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.2, 5.0
GONE = 410

log = get_logger("pods")


@dataclass(frozen=True)
class _Change:
    pod: Pod
    gone: bool


class View:
    """`selector`: labels of the pods that are ours. `changed` is set when there is something new."""

    def __init__(self, api: Api, selector: str, *, monotonic: Callable[[], float]) -> None:
        self._api = api
        self._selector = selector
        self._monotonic = monotonic
        self._stopped = threading.Event()
        self._doubted = threading.Event()
        self._made: dict[str, float] = {}
        self._failures = 0
        self.pods: dict[str, Pod] = {}
        self.gone: dict[str, Pod] = {}
        """By uid: what there is no more, until taken."""
        self.fresh = False
        self.trouble: Trouble | None = None
        self.lists = 0
        """How often everything was listed: what was begun before a list and is not in it, is not there."""
        self.listed_at = 0.0
        self.changed = asyncio.Event()

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._stopped.clear()
        # Not one of a pool: the program's end would wait for its stream.
        threading.Thread(target=self._run, args=(loop,), name="pods", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def note_made(self, pod: Pod) -> None:
        """The answer to a create is as good as an event."""
        self._made[pod.name] = self._monotonic()
        self.pods[pod.name] = pod
        self.changed.set()

    def doubt(self) -> None:
        """A call was not answered: the stream may be as dead. It begins with a list again."""
        self._doubted.set()
        self._api.break_watch()

    # -- in the thread

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped.is_set():
            try:
                self._watch(loop, self._list(loop))
                self._failures = 0
            except Exception as error:
                self._failures += 1
                status = error.status if isinstance(error, Refused) else 0
                if status == GONE and self._failures == 1:
                    continue
                text = str(error)
                if not isinstance(error, Unanswered | Refused):
                    # Nobody would begin this thread again, and what it saw last would be believed for ever.
                    text = f"what it says of pods can't be read: {type(error).__name__}: {error}"
                    log.error("what the API server says of pods can't be read", exc_info=error)
                self._post(loop, self._lost, refusal_of(status, text))
                pause = doubled(FIRST_PAUSE_SECONDS, self._failures, MAX_PAUSE_SECONDS)
                self._stopped.wait(pause * random.uniform(0.5, 1.0))

    def _list(self, loop: asyncio.AbstractEventLoop) -> str:
        began = self._monotonic()
        self._doubted.clear()
        answer = self._api.list_pods(self._selector)
        pods = [pod for raw in answer.get("items") or () if (pod := pod_of(raw)) is not None]
        self._post(loop, self._listed, pods, began)
        return str((answer.get("metadata") or {}).get("resourceVersion", ""))

    def _watch(self, loop: asyncio.AbstractEventLoop, version: str) -> None:
        until = self._monotonic() + LIST_SECONDS
        while not self._stopped.is_set() and (left := until - self._monotonic()) > 1:
            began, heard = self._monotonic(), False
            for events in self._api.watch_pods(self._selector, version, min(WATCH_SECONDS, int(left))):
                changes, heard = [], True
                for event in events:
                    what, raw = str(event.get("type")), event.get("object") or {}
                    if what == "ERROR":
                        code = int(raw.get("code", 0) or 0)
                        raise Refused(code, str(raw.get("reason", "")), str(raw.get("message", "")))
                    self._failures = 0
                    version = str((raw.get("metadata") or {}).get("resourceVersion", version))
                    gone = what == "DELETED"
                    if what != "BOOKMARK" and (pod := pod_of(raw, gone=gone)) is not None:
                        changes.append(_Change(pod, gone))
                if changes:
                    self._post(loop, self._changes, changes)
                if self._stopped.is_set() or self._doubted.is_set():
                    return
            if self._doubted.is_set():
                return
            if not heard and self._monotonic() - began < SHORT_SECONDS:
                self._stopped.wait(SHORT_SECONDS)

    def _post(self, loop: asyncio.AbstractEventLoop, work: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the program ends
            loop.call_soon_threadsafe(work, *arguments)

    # -- in the loop

    def _listed(self, pods: list[Pod], began: float) -> None:
        found = {pod.name: pod for pod in pods}
        for name, made in list(self._made.items()):
            # Made while the list was under way: an event will tell.
            if made >= began and name in self.pods:
                found.setdefault(name, self.pods[name])
            else:
                del self._made[name]
        for name, pod in self.pods.items():
            if name not in found or found[name].uid != pod.uid:
                self.gone[pod.uid] = pod
        self.pods = found
        self.lists += 1
        self.listed_at = began
        if not self.fresh:
            log.info("the API server answers", pods=len(found))
        self.fresh, self.trouble = True, None
        self.changed.set()

    def _changes(self, changes: Iterable[_Change]) -> None:
        for change in changes:
            pod = change.pod
            known = self.pods.get(pod.name)
            if not change.gone:
                if known is not None and known.uid != pod.uid:
                    self.gone[known.uid] = known
                self.pods[pod.name] = pod
            elif known is None or known.uid == pod.uid:
                self.gone[pod.uid] = pod
                self.pods.pop(pod.name, None)
        self.changed.set()

    def _lost(self, trouble: Trouble) -> None:
        if self.fresh or self.trouble is None:
            log.warning("the API server can't be asked; no worker is started or ended", reason=trouble.text)
        self.fresh, self.trouble = False, trouble
        self.changed.set()
