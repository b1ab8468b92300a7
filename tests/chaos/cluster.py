"""Real programs under chaos: planner, two schedulers, workers, a proxy before the schedulers, Redis and PostgreSQL.

What dies is started again at once, as a supervisor would; everything ends with this process (a lifeline).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import redis
import sqlalchemy as sa

from penstock.runtime.lifeline import ENVIRONMENT_NAME
from tests.chaos.executed import LOG
from tests.chaos.proxy import Proxy
from tests.servers.ports import free_ports
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer
from tests.servers.site import install_processor

__all__ = ["TERM_SECONDS", "Cluster", "Program"]

TERM_SECONDS = 4
START_SECONDS = 60.0
RESTART_SECONDS = 60.0
ROOT = Path(__file__).resolve().parents[2]


class Program:
    """One program; `number` tells workers and schedulers apart."""

    def __init__(self, name: str, module: str, environment: dict[str, str], folder: Path, lifeline: int) -> None:
        self.name = name
        self.module = module
        self.environment = environment
        self.folder = folder
        self.lifeline = lifeline
        self.stopped_until = 0.0
        self.deaths: dict[int, float] = {}
        """When which process of it was killed, in milliseconds since the epoch."""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", self.module],
                env={**os.environ, **self.environment, ENVIRONMENT_NAME: str(self.lifeline)},
                stdout=log,
                stderr=log,
                cwd=self.folder,
                pass_fds=(self.lifeline,),
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.alive():
            os.kill(self.pid, number)

    def tail(self) -> str:
        """The last lines of its log."""
        lines = (self.folder / f"{self.name}.log").read_text(errors="replace").splitlines()
        return "\n".join(lines[-20:])

    def kill(self) -> bool:
        """Whether it was alive until now."""
        if self.process is None or not self.alive():
            return False
        self.process.kill()
        self.process.wait(10)
        self.deaths[self.pid] = time.time() * 1000
        return True

    def end(self, seconds: float) -> bool:
        """As for a new version: it finishes what it does. False: it was not there."""
        if self.process is None or not self.alive():
            return False
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(seconds)
        return True


class Cluster:
    """`tend` starts what has died and continues what was stopped long enough; call it often."""

    def __init__(
        self,
        folder: Path,
        source: random.Random,
        *,
        workers: int = 8,
        schedulers: int = 2,
        root: Path = ROOT,
        term_seconds: int = TERM_SECONDS,
    ) -> None:
        self.folder = folder
        self.executions = folder / "executions"
        self.executions.mkdir()
        self.redis = RedisServer()
        self.postgres = PostgresServer()
        self.url = self.postgres.create_database()
        self._lifeline, self._held = os.pipe()
        ports = free_ports(schedulers + 1)
        self.planner_port, self.scheduler_ports = ports[0], ports[1:]
        self.proxy = Proxy(self.scheduler_ports, source)
        site = install_processor(
            folder / "site", Path(__file__).parent / "executed.py", name="executed", target="executed:Executed"
        )
        self.environment = {
            "PYTHONPATH": os.pathsep.join([site["PYTHONPATH"], str(root)]),
            "PENSTOCK_BLOBS": str(folder / "blobs"),
            "PENSTOCK_REDIS_URL": self.redis.url,
            "PENSTOCK_PLANNER_ADDRESS": f"127.0.0.1:{self.planner_port}",
            "PENSTOCK_PLANNER__LISTEN": f"127.0.0.1:{self.planner_port}",
            "PENSTOCK_PLANNER__DATABASE_URL": f"sqlite:///{folder}/planner.db",
            "PENSTOCK_SCHEDULER_ADDRESS": f"127.0.0.1:{self.proxy.port}",
            "PENSTOCK_SCHEDULER__DATABASE_URL": self.url,
            "PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS": str(term_seconds),
            "PENSTOCK_SCHEDULER__SWEEP_SECONDS": "0.5",
            "PENSTOCK_SCHEDULER__RETRY_FIRST_SECONDS": "0.2",
            "PENSTOCK_WORKER__SLOTS": "8",
            "PENSTOCK_WORKER__POLL_SECONDS": "5",
            LOG: str(self.executions),
        }
        self.planner = self._program("planner", "planner")
        self.schedulers = [
            self._program(f"scheduler-{number}", "scheduler", PENSTOCK_SCHEDULER__LISTEN=f"127.0.0.1:{port}")
            for number, port in enumerate(self.scheduler_ports, 1)
        ]
        self.workers = [self._program(f"worker-{number}", "worker") for number in range(1, workers + 1)]
        self.suspended: set[int] = set()
        """Pids that were ever stopped."""

    def _program(self, name: str, module: str, **environment: str) -> Program:
        return Program(name, module, self.environment | environment, self.folder, self._lifeline)

    @property
    def programs(self) -> list[Program]:
        return [self.planner, *self.schedulers, *self.workers]

    def start(self) -> None:
        for program in self.programs:
            program.start()
        deadline = time.monotonic() + START_SECONDS
        waiting = dict(zip((self.planner_port, *self.scheduler_ports), self.programs, strict=False))
        while waiting:
            for port, program in list(waiting.items()):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    del waiting[port]
                    continue
                if not program.alive() or time.monotonic() > deadline:
                    raise AssertionError(f"{program.name} does not serve:\n{program.tail()}")
            time.sleep(0.1)

    def tend(self) -> None:
        now = time.monotonic()
        for program in self.programs:
            if program.stopped_until and now >= program.stopped_until:
                program.stopped_until = 0.0
                program.signal(signal.SIGCONT)
            if not program.alive():
                program.stopped_until = 0.0
                program.start()

    def suspend(self, program: Program, seconds: float) -> bool:
        """SIGSTOP for a while; False: it was not there, or stopped already."""
        if not program.alive() or program.stopped_until:
            return False
        self.suspended.add(program.pid)
        program.stopped_until = time.monotonic() + seconds
        program.signal(signal.SIGSTOP)
        return True

    def restart_scheduler(self, program: Program) -> bool:
        """In good order, and serving again before this returns; False: it was not there."""
        if program.stopped_until or not program.end(RESTART_SECONDS):
            return False
        program.start()
        port = self.scheduler_ports[self.schedulers.index(program)]
        deadline = time.monotonic() + RESTART_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return True
            if not program.alive():
                program.start()
            time.sleep(0.05)
        raise AssertionError(f"{program.name} does not serve again:\n{program.tail()}")

    def redis_client(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis.url, socket_timeout=5)

    def engine(self) -> sa.Engine:
        return sa.create_engine(
            self.url.replace("postgresql://", "postgresql+psycopg://", 1),
            connect_args={"options": "-c search_path=scheduler"},
            pool_pre_ping=True,
        )

    def stop(self) -> None:
        for program in self.programs:
            program.signal(signal.SIGCONT)
            program.kill()
        self.proxy.stop()
        self.redis.stop()
        with contextlib.suppress(OSError):
            shutil.copy(self.postgres.log, self.folder / "postgresql.log")
        self.postgres.stop()
        os.close(self._held)
        os.close(self._lifeline)
