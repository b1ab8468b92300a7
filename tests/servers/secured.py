"""The five programs, each started by itself with a certificate of its own, as a cluster starts them: over mutual TLS,
or, side by side with that, over the token."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from penstock.client import Endpoints
from penstock.runtime.probes import CAUSE_KEY
from penstock.runtime.tls import Identity
from tests.chaos.cluster import Program
from tests.servers.certificates import Authority, mount
from tests.servers.ports import free_ports
from tests.servers.redis import RedisServer

__all__ = ["PROGRAMS", "Secured"]

PROGRAMS = ("planner", "scheduler", "analyzer", "gateway", "worker")
READY_SECONDS = 90.0


class Secured:
    """`start` waits until each says that it is ready. `authority` None: the token, and no TLS."""

    def __init__(self, folder: Path, authority: Authority | None, *, programs: tuple[str, ...] = PROGRAMS) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.redis = RedisServer()
        self._lifeline, self._held = os.pipe()
        self.ports = dict(zip(PROGRAMS[:4], free_ports(4), strict=True))
        self.health_ports = dict(zip(PROGRAMS, free_ports(5), strict=True))
        self.authority = authority
        (folder / "token").write_text("of-the-test")
        shared = {
            "PENSTOCK_BLOBS": str(folder / "blobs"),
            "PENSTOCK_REDIS_URL": self.redis.url,
            "PENSTOCK_GATEWAY__PORT": str(self.ports["gateway"]),
            "PENSTOCK_SCHEDULER__SWEEP_SECONDS": "0.5",
            **{f"PENSTOCK_{name.upper()}_ADDRESS": self.address(name) for name in PROGRAMS[:3]},
            **{f"PENSTOCK_{name.upper()}__LISTEN": self.address(name) for name in PROGRAMS[:3]},
            **{f"PENSTOCK_{name.upper()}__DATABASE_URL": f"sqlite:///{folder}/{name}.db" for name in PROGRAMS[:3]},
        }
        self.programs: dict[str, Program] = {}
        for name in programs:
            own = {"PENSTOCK_HEALTH_PORT": str(self.health_ports[name]), "PENSTOCK_HEALTH_HOST": "127.0.0.1"}
            if authority is None:
                own["PENSTOCK_TOKEN_FILE"] = str(folder / "token")
            else:
                own["PENSTOCK_TLS__FOLDER"] = str(self.renew(name, authority, authority))
            self.programs[name] = Program(name, name, shared | own, folder, self._lifeline)

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    @property
    def url(self) -> str:
        return f"http://{self.address('gateway')}"

    def renew(self, name: str, signer: Authority, *trusted: Authority) -> Path:
        """A new certificate for a program (or `client`), in its folder."""
        return mount(self.folder / f"tls-{name}", signer.leaf(f"penstock-{name}"), *trusted)

    def endpoints(self, caller: str = "client") -> Endpoints:
        """For calls as that caller."""
        planner, scheduler, analyzer = map(self.address, PROGRAMS[:3])
        identity = None
        if self.authority is not None:
            folder = self.folder / f"tls-{caller}"
            if not folder.exists():
                self.renew(caller, self.authority, self.authority)
            identity = Identity(folder)
        token = None if identity else "of-the-test"
        return Endpoints(
            planner, scheduler, analyzer, http=self.url, blobs=self.folder / "blobs", token=token, identity=identity
        )

    def start(self) -> None:
        for program in self.programs.values():
            program.start()
        deadline = time.monotonic() + READY_SECONDS
        for name, program in self.programs.items():
            while (told := self.health(name)) != "SERVING":
                assert program.alive(), f"{name} has ended:\n{program.tail()}"
                assert time.monotonic() < deadline, f"{name} is {told} after {READY_SECONDS:g} s:\n{program.tail()}"
                time.sleep(0.05)

    def health(self, name: str, service: str = "") -> str:
        """What the plain port says, with the cause where it gives one."""
        with grpc.insecure_channel(f"127.0.0.1:{self.health_ports[name]}") as channel:
            ask = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            try:
                answer, call = ask.with_call(health_pb2.HealthCheckRequest(service=service), timeout=5)
            except grpc.RpcError as error:
                return f"no answer: {error}"
        cause = str(dict(call.trailing_metadata() or ()).get(CAUSE_KEY, ""))
        status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
        return f"{status}: {cause}" if cause else status

    def log(self, name: str) -> list[str]:
        return (self.folder / f"{name}.log").read_text(errors="replace").splitlines()

    def renewals(self, name: str) -> int:
        """How often it has taken new certificates. Asking makes it look: who calls nobody has no reason to."""
        self.health(name)
        return sum("new certificates are in use" in line for line in self.log(name))

    def cpu_seconds(self) -> float:
        """What the programs have used together, user and system, with what they have started and waited for."""
        used = 0
        for program in self.programs.values():
            fields = Path(f"/proc/{program.pid}/stat").read_text().rpartition(")")[2].split()
            used += sum(map(int, fields[11:15]))
        return used / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        for program in self.programs.values():
            program.kill()
        self.redis.stop()
        for descriptor in (self._lifeline, self._held):
            with contextlib.suppress(OSError):
                os.close(descriptor)
