"""`penstock up`: starts the programs, says when they are ready, restarts what dies, stops all of it in order.

    starting   lock, leftovers, ports, Redis, then all programs side by side; `ready URL` when /readyz answers 200
    serving    a program that died is started again under the same address
    stopping   SIGTERM in the order gateway, scheduler with its workers, planner and analyzer, Redis; each phase bounded

The loop is one thread that sleeps in `select`: signals wake it through a pipe. It reaps every child, adopted ones too.
Errors before anything was started are raised; afterwards everything that was started is stopped first.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from penstock.runtime.errors import InvalidInput, PenstockError, Unavailable
from penstock.runtime.lifeline import ENVIRONMENT_NAME
from penstock.runtime.settings import Settings, load
from penstock.supervisor import ports as port_book
from penstock.supervisor import redis_server, watcher
from penstock.supervisor.child import Child
from penstock.supervisor.echo import LogEcho, rotate, tail
from penstock.supervisor.folder import DataFolder, folder_problem
from penstock.supervisor.plan import GRPC_PROGRAMS, PROGRAMS, program_arguments, program_environment
from penstock.supervisor.processes import Process, become_subreaper, command, descendants, end, identify, signal_to
from penstock.supervisor.readiness import ReadinessProbe

__all__ = ["UpOptions", "up"]

FIRST_PORT = 8420
PORTS_TRIED = 100
BAD_SETTINGS_EXIT = 2
TICK_SECONDS = 0.5
CENSUS_SECONDS = 2.0
PATIENCE_SECONDS = 10.0
STOP_PHASES: tuple[tuple[tuple[str, ...], float], ...] = (
    (("gateway",), 4.0),
    (("scheduler",), 9.0),
    (("planner", "analyzer"), 3.5),
    (("redis",), 1.5),
)


@dataclass(frozen=True)
class UpOptions:
    data: Path
    port: int | None = None
    workers: int | None = None
    config: Path | None = None


def up(options: UpOptions) -> int:
    """Runs until told to stop; the exit code. Raises PenstockError when it can't start."""
    data = options.data.expanduser().absolute()
    environment = {**os.environ, "PENSTOCK_DATA": str(data)}
    environment.pop(ENVIRONMENT_NAME, None)
    config = options.config.expanduser().absolute() if options.config else None
    try:
        settings = load(environment, config=config)
        is_first = not (data / "state.json").exists()
    except OSError as error:
        raise folder_problem(error, data) from error
    if settings.gateway.host not in (port_book.HOST, "localhost"):
        raise InvalidInput(
            f"gateway.host (PENSTOCK_GATEWAY__HOST) is {settings.gateway.host}, and `penstock up` serves on "
            f"{port_book.HOST} only: leave it out, and put a proxy in front for other machines",
            code="settings",
        )
    if is_first:
        # A folder is made only for what can start. Where one was used before, its leftovers may hold the port.
        _http_port(settings, options).close()
    folder = DataFolder(options.data)
    try:
        return Supervisor(folder, settings, options).run()
    finally:
        folder.close()


def _http_port(settings: Settings, options: UpOptions) -> port_book.Reservation:
    """Keeps the port that was asked for, or the first free one. Raises Unavailable (`port_taken`)."""
    gateway = settings.gateway
    wanted = options.port
    if wanted is None and "port" in gateway.model_fields_set:
        wanted = gateway.port
    if wanted is not None:
        kept = port_book.reserve(wanted)
        if kept is None:
            raise Unavailable(
                f"port {wanted} is taken by {port_book.holder(wanted)}: choose another with --port, or leave "
                "--port out to get a free one",
                code="port_taken",
            )
        return kept
    kept = port_book.first_free([*range(FIRST_PORT, FIRST_PORT + PORTS_TRIED), 0])
    if kept is None:
        raise Unavailable("no free port on 127.0.0.1", code="port_taken")
    return kept


class Supervisor:
    def __init__(self, folder: DataFolder, settings: Settings, options: UpOptions) -> None:
        self._folder = folder
        self._settings = settings
        self._options = options
        self._children: dict[str, Child] = {}
        self._reservations: list[port_book.Reservation] = []
        self._socket_folder: Path | None = None
        self._stops_asked = 0
        self._ready = False
        self._url = ""
        self._ports: dict[str, int] = {}
        self._workers: dict[str, Process] = {}
        self._others: list[Process] = []
        self._census_at = 0.0

    # --- starting -------------------------------------------------------------------------------------------------

    def run(self) -> int:
        become_subreaper()
        self._end_leftovers()
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        os.set_blocking(reading, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._asked_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._wake = reading
        self._echo = LogEcho(self._folder.path / "logs")
        try:
            self._start_all()
            return self._serve()
        except PenstockError:
            self._stop()
            raise
        finally:
            self._let_go()

    def _asked_to_stop(self, number: int, _: FrameType | None) -> None:
        self._stops_asked += 1

    def _end_leftovers(self) -> None:
        """Ends what the last supervisor of this folder started and could not stop, by pid and start time."""
        state = self._folder.read_state()
        left = []
        for record in state.get("processes", ()):
            with contextlib.suppress(TypeError, ValueError, KeyError):
                left.append(Process(int(record["pid"]), int(record["start_ticks"])))
        end(left)
        old = state.get("socket_folder")
        if isinstance(old, str) and Path(old).name.startswith("penstock-"):
            shutil.rmtree(old, ignore_errors=True)
        ports = state.get("ports")
        self._old_ports = ports if isinstance(ports, dict) else {}

    def _reserve_ports(self) -> None:
        kept = _http_port(self._settings, self._options)
        self._reservations.append(kept)
        self._ports["gateway"] = kept.port
        self._url = f"http://{port_book.HOST}:{kept.port}"
        for name in GRPC_PROGRAMS:
            old = self._old_ports.get(name)
            one = port_book.first_free([old, 0] if isinstance(old, int) and old > 0 else [0])
            if one is None:
                raise Unavailable("no free port on 127.0.0.1", code="port_taken")
            self._reservations.append(one)
            self._ports[name] = one.port

    def _start_all(self) -> None:
        self._reserve_ports()
        token = self._folder.token()
        self._folder.say_who(self._url)
        # The write end stays here and nowhere else: when this process is gone, every program reads the end of the pipe.
        self._lifeline, self._lifeline_writer = os.pipe()
        redis_url = self._settings.redis_url
        if not redis_url:
            self._socket_folder = redis_server.make_socket_folder()
            redis_url = f"unix://{self._socket_folder / redis_server.SOCKET_NAME}"
            program = redis_server.server_program()
            watching = [sys.executable, "-I", "-S", watcher.__file__, str(self._lifeline)]
            self._add("redis", [*watching, *redis_server.arguments(program, self._socket_folder)], dict(os.environ))
        self._redis_url = redis_url
        config = self._options.config
        environment = program_environment(
            self._settings,
            data=self._folder.path,
            config=config.expanduser().absolute() if config else None,
            token=token,
            redis_url=redis_url,
            ports=self._ports,
            workers=self._options.workers,
            lifeline=self._lifeline,
        )
        with contextlib.suppress(OSError):
            rotate(self._folder.log("worker"))
        for name in PROGRAMS:
            self._add(name, program_arguments(name), environment)
        self._record()
        for child in self._children.values():
            self._start(child)
        self._record()

    def _add(self, name: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
        log = self._folder.log(name)
        with contextlib.suppress(OSError):
            rotate(log)
        self._children[name] = Child(name, arguments, environment, self._folder.path, log, self._lifeline)

    def _start(self, child: Child) -> None:
        now = time.monotonic()
        try:
            child.start(now)
        except OSError as error:
            self._echo.say(f"{child.name} can't be started: {error.strerror}; trying again")
            child.died(1, now)

    # --- serving --------------------------------------------------------------------------------------------------

    def _serve(self) -> int:
        probe = ReadinessProbe(port_book.HOST, self._ports["gateway"])
        told = time.monotonic()
        try:
            while not self._stops_asked:
                self._sleep(TICK_SECONDS if self._ready else 0.05)
                self._reap(self._restart_later)
                self._start_due()
                self._census()
                self._echo.poll()
                if not self._ready and probe.ready:
                    self._say_ready()
                elif not self._ready and time.monotonic() - told > PATIENCE_SECONDS:
                    told = time.monotonic()
                    self._echo.say(f"not ready yet: {probe.answer}")
        finally:
            probe.close()
        self._echo.say("stopping (once more to kill)")
        self._stop()
        return 0 if self._stops_asked == 1 else 1

    def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(InterruptedError):
            if select.select([self._wake], [], [], max(0.0, seconds))[0]:
                os.read(self._wake, 256)

    def _say_ready(self) -> None:
        self._ready = True
        self._census_at = 0.0
        self._census()
        with contextlib.suppress(OSError):
            sys.stdout.write(f"ready {self._url}\n")
            sys.stdout.flush()

    def _reap(self, note: Callable[[Child, int], None]) -> None:
        """Takes the exit of every child that ended: programs, and orphans that came to us."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            for child in self._children.values():
                if child.process is not None and child.process.pid == pid:
                    child.died(code, time.monotonic())
                    note(child, code)

    def _restart_later(self, child: Child, code: int) -> None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
        if code == BAD_SETTINGS_EXIT and not self._ready:
            words = "\n  ".join(tail(child.log, 5)) or "no reason given"
            raise InvalidInput(f"{child.name} refuses its settings:\n  {words}", code="settings")
        self._census_at = 0.0
        self._echo.say(f"{child.name} {how}; it is started again")

    def _start_due(self) -> None:
        now = time.monotonic()
        started = False
        for child in self._children.values():
            if child.process is None and now >= child.due:
                self._start(child)
                started = True
        if started:
            self._census_at = 0.0
            self._note(self._record)

    def _census(self) -> None:
        """Now and then: who lives below us, so that the records of pids are true."""
        now = time.monotonic()
        if now < self._census_at:
            return
        self._census_at = now + CENSUS_SECONDS
        ours = {child.process.pid for child in self._children.values() if child.process is not None}
        below = [process for pid in descendants(os.getpid()) if pid not in ours and (process := identify(pid))]
        workers = [process for process in below if command(process.pid)[1:4] == ["-P", "-m", "worker"]]
        self._workers = {f"worker-{i}": process for i, process in enumerate(workers, 1)}
        self._others = [process for process in below if process not in workers]
        self._note(self._record)
        if self._ready:
            self._note(self._write_endpoints)

    def _note(self, write: Callable[[], None]) -> None:
        # A full disk must not end what serves; the records are as they were.
        try:
            write()
        except PenstockError as error:
            self._echo.say(error.message)

    def _record(self) -> None:
        processes = [
            *((child.name, child.process) for child in self._children.values() if child.process is not None),
            *self._workers.items(),
            *(("other", process) for process in self._others),
        ]
        self._folder.write_json(
            "state.json",
            {
                "ports": self._ports,
                "socket_folder": str(self._socket_folder) if self._socket_folder else None,
                "processes": [{"name": n, "pid": p.pid, "start_ticks": p.start_ticks} for n, p in processes],
            },
        )

    def _write_endpoints(self) -> None:
        pids = {"supervisor": os.getpid()}
        for name, child in self._children.items():
            if child.process is None:
                continue
            below = descendants(child.process.pid) if name == "redis" else []
            pids[name] = below[0] if below else child.process.pid
        pids.update({name: process.pid for name, process in self._workers.items()})
        addresses = {name: f"{port_book.HOST}:{self._ports[name]}" for name in GRPC_PROGRAMS}
        self._folder.write_json(
            "endpoints.json",
            {
                "http": self._url,
                **addresses,
                "redis": redis_server.without_password(self._redis_url),
                # As the programs see it, whose working folder is the data folder.
                "blobs": str(self._folder.path / (self._settings.blobs or "blobs")),
                "blobs_url": self._settings.blobs_url,
                "s3_endpoint": self._settings.s3_endpoint,
                "s3_region": self._settings.s3_region,
                "pids": pids,
            },
        )

    # --- stopping -------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Ends everything, phase by phase; a second request to stop, or the end of a phase's time, kills."""
        self._folder.remove("endpoints.json")
        for names, seconds in STOP_PHASES:
            children = [child for name in names if (child := self._children.get(name)) and child.process]
            for child in children:
                if child.process is not None:
                    signal_to(child.process, signal.SIGTERM)
            self._await(lambda group=children: not any(child.process for child in group), seconds)  # type: ignore[misc]
            for child in children:
                if child.process is not None:
                    self._echo.say(f"{child.name} did not stop in {seconds:g} s and is killed")
                    end([child.process])
            if "scheduler" in names:
                self._end_workers()
            self._reap(lambda *_: None)
        # The last word: nothing below us may stay.
        end([process for pid in descendants(os.getpid()) if (process := identify(pid))])
        self._reap(lambda *_: None)

    def _end_workers(self) -> None:
        """Workers that the scheduler did not take with it (it died, or was killed)."""
        ours = {child.process.pid for child in self._children.values() if child.process is not None}
        redis = self._children.get("redis")
        if redis is not None and redis.process is not None:
            ours.update(descendants(redis.process.pid))
        left = [process for pid in descendants(os.getpid()) if pid not in ours and (process := identify(pid))]
        for process in left:
            signal_to(process, signal.SIGTERM)
        self._await(lambda: not any(process.alive() for process in left), 1.0)
        end(left)

    def _await(self, done: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline and self._stops_asked < 2:
            self._sleep(0.05)
            self._reap(lambda *_: None)
            self._echo.poll()

    def _let_go(self) -> None:
        if self._socket_folder is not None:
            shutil.rmtree(self._socket_folder, ignore_errors=True)
        self._note(lambda: self._folder.write_json("state.json", {"ports": self._ports, "processes": []}))
        for kept in self._reservations:
            kept.close()
        self._echo.close()
