"""Starts programs for a worker, and ends them with everything that they have started.

Run as `python -I -S keeper.py FD` with the standard library alone: small, and of one thread, so that a fork costs
little and is safe. On the socket FD the worker sends two descriptors a program: a file that says what to start, and a
socket of its own. Each program has a watcher, forked here: the parent of it and of all orphans among what it starts (a
child subreaper), in a session of its own. When that socket's other end is gone, the worker is, however it died: the
watcher ends its program, removes its folder, and ends. The keeper's own death changes nothing for those that run.

    worker -> watcher   t: stop (SIGTERM, and SIGKILL when stop_seconds are over); k: kill; end of file: kill, clean up
    watcher -> worker   P and a progress line; E and how it ended, as JSON, when nothing of it lives; then end of file,
                        when the worker has read what it wrote and its folder is gone
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Collection
from typing import Any, NoReturn

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_NOT_STARTED = 127
_CHUNK = 1 << 16
_PROGRESS = b"::progress "
_MAX_PROGRESS_BYTES = 512
_LOOK_SECONDS = 0.2
"""Between two looks at the memory of a program and all that it has started."""
_END_SECONDS = 5.0
_OOM_SCORE = b"500"
"""When the machine runs out of memory a program goes before the worker that started it."""
_PAGE = resource.getpagesize()
_LIBC = ctypes.CDLL(None)
_TELLS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def below(root: int) -> list[int]:
    """Children, their children and so on, zombies too."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        try:
            children = _told_children(pid) if _TELLS_CHILDREN else _children(pid)
        except OSError:  # it is gone
            continue
        found += children
        waiting += children
    return found


def _told_children(parent: int) -> list[int]:
    found: list[int] = []
    for thread in os.listdir(f"/proc/{parent}/task"):
        with contextlib.suppress(OSError), open(f"/proc/{parent}/task/{thread}/children", "rb") as file:
            found += map(int, file.read().split())
    return found


def _children(parent: int) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", "rb") as file:
            if int(file.read().rpartition(b")")[2].split()[1]) == parent:
                found.append(int(name))
    return found


def end_below(keep: Collection[int] = ()) -> None:
    """Kills all that lives below this process, again and again until nothing does; `keep`: children that are left."""
    deadline = time.monotonic() + _END_SECONDS
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        kept = {*keep, *(pid for one in keep for pid in below(one))}
        left = [pid for pid in below(os.getpid()) if pid not in kept]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


class Watcher:
    """One program: from its start to the end of all that it has started."""

    def __init__(self, spec: dict[str, Any], given: bytes, control: socket.socket) -> None:
        self._spec = spec
        self._given = given
        self._control = control
        self._folder: str = spec["folder"]
        self._began = time.monotonic()
        self._why = ""
        self._status: int | None = None
        self._peak = 0
        self._line = b""
        self._head, self._tail, self._log_bytes, self._out_bytes = bytearray(), bytearray(), 0, 0
        self._stdout = -1
        self._started = False
        self._alone = False

    def run(self) -> None:
        try:
            told = self._run()
        except OSError as error:
            end_below()
            told = {"error": f"it can't be started: {error.strerror or error}"}
            if self._started:  # a disk that is full, most likely
                told = {"why": "lost"}
        if not self._alone:
            with contextlib.suppress(OSError):
                self._control.setblocking(True)
                self._control.send(b"E" + json.dumps(told).encode())
                while self._control.recv(16):
                    pass
        try:
            os.unlink(self._place("input.json"))
            os.rmdir(self._place("work"))
            os.rmdir(self._folder)
        except OSError:
            shutil.rmtree(self._folder, onerror=_opened)

    def _run(self) -> dict[str, Any]:
        for name in ("", "work"):
            os.mkdir(os.path.join(self._folder, name), 0o700)
        with open(self._place("input.json"), "wb") as file:
            file.write(self._given)
        (out, out_end), (err, err_end), (failed, failed_end) = os.pipe(), os.pipe(), os.pipe()
        given = os.open(self._place("input.json") if self._spec["stdin"] else os.devnull, os.O_RDONLY)
        watcher = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._become(watcher, (given, out_end, err_end), failed_end)
        for descriptor in (given, out_end, err_end, failed_end):
            os.close(descriptor)
        if why := os.read(failed, 4096):
            os.waitpid(pid, 0)
            return {"error": why.decode(errors="replace")}
        os.close(failed)
        self._started = True
        self._watch(pid, out, err)
        self._flush_line()
        if self._log_bytes:
            with open(self._place("log"), "wb") as log:
                log.write(self._log())
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "code": code if code >= 0 else None,
            "signal": -code if code < 0 else None,
            "why": self._why,
            "seconds": round(time.monotonic() - self._began, 4),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 4),
            "peak_bytes": max(self._peak, used.ru_maxrss << 10),
            "log_bytes": self._log_bytes,
        }

    def _place(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _become(self, watcher: int, ends: tuple[int, int, int], failed: int) -> NoReturn:
        """In the child: the program, in a session of its own, with its bounds. It dies with its watcher."""
        try:
            os.setsid()
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != watcher:
                os._exit(_NOT_STARTED)
            for place, descriptor in enumerate(ends):
                os.dup2(descriptor, place)
            os.chdir(self._place("work"))
            for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:
                file.write(_OOM_SCORE)
            bounds = self._spec["bounds"]
            _bound(resource.RLIMIT_CORE, 0, 0)
            if bounds["file_bytes"]:
                _bound(resource.RLIMIT_FSIZE, bounds["file_bytes"], bounds["file_bytes"])
            if bounds["cpu_seconds"]:
                _bound(resource.RLIMIT_CPU, bounds["cpu_seconds"], bounds["cpu_seconds"] + 1)
            if bounds["memory_bytes"]:
                _bound(resource.RLIMIT_AS, bounds["memory_bytes"], bounds["memory_bytes"])
            os.execvpe(self._spec["argv"][0], self._spec["argv"], self._spec["environment"])
        except BaseException as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            os.write(failed, f"{self._spec['argv'][0][:200]} can't be started: {why}".encode(errors="replace"))
        os._exit(_NOT_STARTED)

    def _watch(self, pid: int, out: int, err: int) -> None:
        """Until the program has ended, and all that it has started, and what they wrote is read."""
        pidfd = os.pidfd_open(pid)
        poll = select.poll()
        for descriptor in (out, err, pidfd, self._control.fileno()):
            poll.register(descriptor, select.POLLIN)
        bounds = self._spec["bounds"]
        due, kill_at, look_at = self._began + bounds["wall_seconds"], float("inf"), self._began + 0.05
        while True:
            lives = self._status is None
            looks = lives and bool(bounds["memory_bytes"])
            until = min(due, kill_at, look_at if looks else due) - time.monotonic()
            ready = {descriptor for descriptor, _ in poll.poll(min(60.0, max(0.0, until)) * 1000 + 1)}
            now = time.monotonic()
            if self._control.fileno() in ready:
                word = self._control.recv(16)
                if word == b"t" and lives and not self._why:
                    self._why, kill_at = "stopped", self._signal(pid)
                elif word != b"t":
                    self._why, kill_at, self._alone = self._why or "stopped", now, not word
                    poll.unregister(self._control.fileno())
            if out in ready and not self._take_output(out, bounds["output_bytes"]):
                poll.unregister(out)
                out = -1
            if err in ready and not self._take_log(err):
                poll.unregister(err)
                err = -1
            if lives and not self._why:
                if self._out_bytes > bounds["output_bytes"]:
                    self._why, kill_at = "output", now
                elif now >= due:
                    self._why, kill_at = "wall", self._signal(pid)
                elif looks and now >= look_at:
                    look_at = now + _LOOK_SECONDS
                    if self._memory() > bounds["memory_bytes"]:
                        self._why, kill_at = "memory", now
            if lives and self._why:
                due = look_at = float("inf")
                if now >= kill_at:
                    os.kill(pid, signal.SIGKILL)  # not reaped yet, so the pid is still its own
                    kill_at = float("inf")
            if pidfd in ready:
                poll.unregister(pidfd)
                os.close(pidfd)
                _, self._status = os.waitpid(pid, 0)
                end_below()
                # Who took its pipes elsewhere is not waited for without end.
                pidfd, due, kill_at = -1, time.monotonic() + _END_SECONDS, float("inf")
            if self._status is not None and ((out, err) == (-1, -1) or now >= due):
                return

    def _signal(self, pid: int) -> float:
        """Asks the program's group to end; when it is killed if it does not."""
        with contextlib.suppress(OSError):
            os.killpg(pid, signal.SIGTERM)
        return time.monotonic() + float(self._spec["bounds"]["stop_seconds"])

    def _memory(self) -> int:
        """Resident bytes of all that lives below."""
        total = 0
        for pid in below(os.getpid()):
            with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/statm", "rb") as file:
                total += int(file.read().split()[1]) * _PAGE
        self._peak = max(self._peak, total)
        return total

    def _take_output(self, out: int, most: int) -> bool:
        data = os.read(out, _CHUNK)
        if data and self._stdout < 0:
            self._stdout = os.open(self._place("stdout"), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        if self._out_bytes <= most:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._stdout, rest) :]
        self._out_bytes += len(data)
        return bool(data)

    def _take_log(self, err: int) -> bool:
        """Reads some of standard error; whole lines of progress go to the worker, all else into the log."""
        data = os.read(err, _CHUNK)
        *lines, rest = (self._line + data).split(b"\n")
        kept = b"".join(line + b"\n" for line in lines if not self._is_progress(line))
        self._line = rest
        if not _PROGRESS.startswith(rest[: len(_PROGRESS)]) or len(rest) > _MAX_PROGRESS_BYTES:
            kept, self._line = kept + rest, b""
        self._keep(kept)
        return bool(data)

    def _is_progress(self, line: bytes) -> bool:
        if not line.startswith(_PROGRESS) or len(line) > _MAX_PROGRESS_BYTES:
            return False
        with contextlib.suppress(OSError):  # a worker that is slow to read misses some
            self._control.send(b"P" + line[len(_PROGRESS) :], socket.MSG_DONTWAIT)
        return True

    def _flush_line(self) -> None:
        if not self._is_progress(self._line):
            self._keep(self._line)

    def _keep(self, data: bytes) -> None:
        """The first half of what the log may have, and the last."""
        half = self._spec["bounds"]["log_bytes"] // 2
        self._log_bytes += len(data)
        room = half - len(self._head)
        self._head += data[:room]
        self._tail += data[max(0, room) :]
        if len(self._tail) > 2 * half:
            del self._tail[:-half]

    def _log(self) -> bytes:
        half = self._spec["bounds"]["log_bytes"] // 2
        tail = self._tail[-half:]
        left_out = self._log_bytes - len(self._head) - len(tail)
        return bytes(self._head) + (b"\n... %d bytes left out ...\n" % left_out if left_out else b"") + bytes(tail)


def _bound(name: int, soft: int, hard: int) -> None:
    """As tight as asked for; what is tighter already stays."""
    _, most = resource.getrlimit(name)
    if most != resource.RLIM_INFINITY:
        soft, hard = min(soft, most), min(hard, most)
    resource.setrlimit(name, (soft, hard))


def _opened(remove: Any, path: str, error: Any) -> None:
    """A program may leave folders that nobody may look into."""
    with contextlib.suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        os.chmod(path, 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


def _watch_one(spec: int, control: int) -> None:
    with open(spec, "rb") as file:
        length = int.from_bytes(file.read(8), "big")
        told = json.loads(file.read(length))
        given = file.read()
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # A kill of the worker's whole group must leave somebody who cleans up.
    os.setsid()
    Watcher(told, given, socket.socket(fileno=control)).run()


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(requests.fileno(), False)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Orphans of a watcher that was killed come here.
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    # Each watcher is short-lived: looking for cycles would only copy memory that it shares with this process.
    gc.disable()
    watchers: set[int] = set()
    while True:
        ready, _, _ = select.select([requests.fileno(), reading], [], [])
        if reading in ready:
            os.read(reading, 4096)
            _reap(watchers)
        if requests.fileno() not in ready:
            continue
        data, descriptors, _, _ = socket.recv_fds(requests, 16, 2)
        if not data:
            break
        if len(descriptors) != 2:  # no descriptor was free for it: the worker sees the end of its socket
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        spec, control = descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        with contextlib.suppress(OSError):  # no process is to be had: the same
            pid = os.fork()
            if pid == 0:
                try:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for one in (requests.detach(), reading, writing):
                        os.close(one)
                    _watch_one(spec, control)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                    sys.stderr.flush()
                    os._exit(1)
            watchers.add(pid)
        for descriptor in descriptors:
            os.close(descriptor)
    # The worker is gone. Each watcher sees it by itself.
    deadline = time.monotonic() + 2 * _END_SECONDS
    while watchers and time.monotonic() < deadline:
        select.select([reading], [], [], 0.2)
        _reap(watchers)
    end_below()


def _reap(watchers: set[int]) -> None:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            if pid in watchers:
                watchers.discard(pid)
                if status:
                    end_below(watchers)


if __name__ == "__main__":
    main()
