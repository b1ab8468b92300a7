"""Every setting of every program: one tree, one file, one table.

A setting comes from the environment (`PENSTOCK_SCHEDULER__LEASE_TERM_SECONDS=15`), else from the file given by
`--config` / `PENSTOCK_CONFIG`, else from `DATA/penstock.toml` (`[scheduler] lease_term_seconds = 15`), else it has its
default. `load` checks all of it and reports every problem at once; a name that does not exist is an error with the
nearest one that does. A setting that holds several things by name is one JSON object in the environment
(`PENSTOCK_PLANNER__PROFILES={"night": {"concurrency": 4}}`); a list has commas between its values, or is a JSON array.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from penstock.runtime.errors import InvalidInput
from penstock.runtime.gateway_settings import GatewaySection
from penstock.runtime.setting_types import Port, Section
from penstock.runtime.setting_urls import BlobsUrl, DatabaseUrl, HttpUrl, RedisUrl

__all__ = ["PREFIX", "Settings", "describe", "load"]

PREFIX = "PENSTOCK_"
CLIENT_NAMES = frozenset(
    {
        "PENSTOCK_ACTOR",
        "PENSTOCK_URL",
        "PENSTOCK_CONFIG",
        "PENSTOCK_DATA",
        "PENSTOCK_TOKEN",
        "PENSTOCK_LIFELINE_FD",
        "PENSTOCK_WORKER_SESSION",
    }
)
"""Environment names that are read elsewhere: by clients and by the supervisor's children."""

LISTED = ("gateway.cors_origins", "gateway.trusted_proxies", "planner.source_folders", "planner.disabled_processors")
"""Settings with several values: in the environment they stand with commas between them, or as a JSON array."""

MIB = 1 << 20


def _json(values: dict[str, Any]) -> dict[str, Any]:
    """Parameters are JSON: what TOML has besides, and NaN, would be null in a plan, or stop it much later."""
    try:
        json.dumps(values, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"parameters are JSON, and these are not: {error}") from None
    return values


Seconds = Annotated[float, Field(ge=0.01, le=86_400)]
"""Loops wait so long between two turns: with less they would do nothing else."""
LeaseTerm = Annotated[float, Field(ge=1, le=86_400)]
"""Under a second a worker that is only busy renews too late, and its work is granted again and again."""
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class ServerSection(Section):
    """What every gRPC server has."""

    listen: str = Field("127.0.0.1:0", description="host:port of the gRPC server; port 0: any free one.")
    database_url: DatabaseUrl = Field("", description="sqlite:///FILE or postgresql://…; this service's own.")
    metrics_port: Port = Field(0, description="Port of Prometheus metrics at metrics_host; 0: none.")


class DatabaseSection(Section):
    """Of every program that has one; the pool is of connections to PostgreSQL."""

    auto_migrate: bool = Field(
        True, description="A program brings its schema to its own version at the start; else it waits until it is."
    )
    pool_size: int = Field(4, ge=1, le=100, description="Connections to PostgreSQL that each program keeps.")
    pool_overflow: int = Field(4, ge=0, le=100, description="And opens besides while those are all in use.")


class MigrationsSection(Section):
    database_url: DatabaseUrl = Field(
        "", description="Of the role that may make tables, for `penstock migrate` alone; empty: each service's own."
    )


class UploadLimits(Section):
    """Bounds of one upload; past them it is refused whole (413), a document alone when only it is too large."""

    max_documents: int = Field(100_000, ge=1, description="Documents in one upload, by files or zip.")
    max_document_bytes: int = Field(10 * MIB, ge=1, description="Bytes of one document; a larger one fails alone.")
    max_upload_bytes: int = Field(1024 * MIB, ge=1, description="Bytes of one upload, packed and unpacked.")
    max_zip_ratio: int = Field(100, ge=2, description="Unpacked / packed bytes of an archive and of each member.")


class TableLimits(Section):
    """Bounds of one catalog or table; past them it is refused whole (413)."""

    max_files: int = Field(100_000, ge=1, description="Files in one catalog.")
    max_bytes: int = Field(4096 * MIB, ge=1, description="Bytes of one catalog as it is sent.")
    max_unpacked_bytes: int = Field(16_384 * MIB, ge=1, description="Bytes of the same, unpacked.")
    max_ratio: int = Field(100, ge=2, description="Unpacked / packed bytes of gzip and zstd.")


class ProfileSettings(Section):
    """What a profile sets for each stage of a plan; 0 and empty leave it to the default. What a stage says itself goes
    before."""

    concurrency: int = Field(0, ge=0, le=10_000)
    max_tries: int = Field(0, ge=0, le=100)
    max_run_seconds: int = Field(0, ge=0, le=7 * 86_400)
    worker_class: str = Field("", max_length=63)
    parameters: dict[str, Annotated[dict[str, Any], AfterValidator(_json)]] = Field(default_factory=dict)
    """By the name of a processor; checked against its own types when the planner starts."""


class WorkerClassSettings(Section):
    environment: tuple[EnvironmentName, ...] = ()
    """Names that its workers have, as variables or as keys of Secrets. Names are compared, values never read."""


class PlannerSection(ServerSection):
    uploads: UploadLimits = Field(default_factory=lambda: UploadLimits())
    tables: TableLimits = Field(default_factory=lambda: TableLimits())
    source_folders: tuple[Path, ...] = Field(
        (), description="Folders of this machine from which sources may be added by path; none: nothing may."
    )
    databases: dict[str, DatabaseUrl] = Field(
        default_factory=dict,
        description='PostgreSQL databases that sources may read, as {"shop": "postgresql://…"}; read-only users do.',
    )
    confirm_above_items: int = Field(
        200, ge=0, description="A plan of more items, or with a cost, asks before it runs."
    )
    draft_hours: float = Field(
        24.0, ge=0.01, le=876_000, description="Hours that a preview's plan is kept unless it is started."
    )
    profiles: dict[Name, ProfileSettings] = Field(
        default_factory=dict,
        description='Profiles of plans by name, as {"night": {"concurrency": 4, "max_tries": 8, "parameters": '
        '{"noop": {"sleep_seconds": 1}}}}; fast, standard and thorough are there, unless one of that name is set.',
    )
    disabled_processors: tuple[str, ...] = Field((), description="Processors that no plan may name and no run start.")


class SchedulerSection(ServerSection):
    lease_term_seconds: LeaseTerm = Field(
        30.0,
        description="A lease unrenewed for so long is lost; renewed every third of it. At least 1 s.",
    )
    window_items: int = Field(4_000, ge=10, le=100_000, description="Items of a stage kept ready in Redis.")
    window_bytes: int = Field(64 * MIB, ge=MIB, description="Payload bytes kept in memory over all runs.")
    retry_first_seconds: Seconds = Field(1.0, description="Back-off after the first failed try; doubles, with jitter.")
    retry_max_seconds: Seconds = Field(300.0, description="Longest back-off.")
    owner_weights: dict[str, float] = Field(
        default_factory=dict,
        description='Share of owners that are not alike, as {"ada": 3}; 1 for an owner not named here.',
    )
    sweep_seconds: Seconds = Field(1.0, description="Time between sweeps.")
    archive_hours: float = Field(
        168.0, ge=0, le=876_000, description="An ended run's rows move into its archive after so long."
    )
    event_hours: float = Field(
        2160.0, ge=0, le=876_000, description="Events of an archived run are listed from SQL for so long."
    )
    commit_queue: int = Field(1_000, ge=10, description="Calls waiting for a shared transaction; more are refused.")
    backend: Literal["none", "process", "kubernetes"] = Field(
        "none", description="Who starts workers: nobody, local processes, or pods."
    )
    workers: int = Field(2, ge=1, le=256, description="Most workers that the process backend starts.")
    warm_workers: int = Field(1, ge=0, description="Workers kept alive while there is nothing to do.")
    idle_seconds: Seconds = Field(
        20.0, description="A worker beyond the warm ones with nothing to do is ended after this."
    )
    release: str = Field(
        "penstock", pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", description="First part of the names of pods."
    )
    worker_namespace: str = Field("", max_length=63, description="Namespace of the pods that workers run in.")
    pods_owner: str = Field("", max_length=253, description="ConfigMap there that owns the pods: they go with it.")
    pod_image: str = Field("", description="Image of workers whose class names none.")
    pod_pull_policy: Literal["", "Always", "IfNotPresent", "Never"] = Field(
        "", description="When a node asks the registry for that image; empty: as Kubernetes does."
    )
    classes_file: Path | None = Field(None, description="File (YAML) with the worker classes that pods are made for.")
    worker_processors: str = Field("", max_length=253, description="ConfigMap there with declared processors, if any.")
    worker_tls_secret: str = Field(
        "", description="Secret with the workers' certificate; empty: RELEASE-worker-tls; `none`: they have none."
    )
    kubeconfig: Path | None = Field(
        None, description="How to reach the API server; empty: as a pod does, by its service account."
    )
    quiet_seconds: float = Field(
        30.0, ge=0, le=3600, description="A scheduler that comes to lead starts and ends no pods for so long."
    )
    start_seconds: Seconds = Field(
        300.0, description="A pod that is not ready after this is replaced; one that waits for a node is not."
    )
    node_lost_seconds: Seconds = Field(
        300.0, description="A pod whose node gives no sign for so long is given up, once its leases have run out."
    )


class WorkerSection(Section):
    slots: int = Field(256, ge=1, le=10_000, description="Leases that one worker holds at once.")
    worker_class: str = Field("default", min_length=1, description="The class of this worker.")
    metrics_port: Port = Field(0, description="Port of Prometheus metrics at metrics_host; 0: none.")
    secrets_folder: Path | None = Field(None, description="Folder of mounted Secrets: a processor gets what it names.")
    lease_margin_seconds: Seconds = Field(
        5.0, description="A lease is not begun so long before its term ends; a third of the term at most."
    )
    drain_seconds: Seconds = Field(10.0, description="After SIGTERM what runs may finish for so long.")
    poll_seconds: Seconds = Field(10.0, description="An acquire waits at most so long for work.")
    extract_seconds: Seconds = Field(20.0, description="Time for the text of one PDF, DOCX or HTML file.")
    extract_memory_bytes: int = Field(512 * MIB, ge=64 * MIB, description="Memory for the same.")


class AnalyzerSection(ServerSection):
    embedding_provider: Literal["offline", "ollama", "openai", "sentence-transformers"] = Field(
        "offline", description="Who makes embeddings; offline is LSA fitted on the collection."
    )
    embedding_model: str = Field("", description="The provider's model; empty: its default.")
    embedding_url: str = Field("", description="Base URL of the provider; empty: its own default.")
    embedding_api_key_file: Path | None = Field(None, description="File with the provider's key.")
    embedding_batch: int = Field(64, ge=1, le=2048, description="Texts in one request to the provider.")
    embedding_timeout_seconds: Seconds = Field(60.0, description="Time for one request to the provider.")


class TlsSection(Section):
    folder: str = Field(
        "",
        description="Folder with ca.crt, tls.crt and tls.key: gRPC is mutual TLS by them; empty: by the token.",
    )


class Settings(Section):
    data: Path | None = Field(None, description="The data folder of the embedded mode.")
    blobs: Path | None = Field(None, description="Folder of the blob store; default DATA/blobs.")
    processors: Path | None = Field(
        None, description="Folder of declared processors, one file each; default DATA/processors."
    )
    blobs_url: BlobsUrl = Field(
        "", description="s3://BUCKET or s3://BUCKET/PREFIX: blobs lie there, and their folder has local copies."
    )
    s3_endpoint: HttpUrl = Field("", description="http(s)://host:port of an S3-compatible service; empty: AWS.")
    s3_region: str = Field("", description="Region of the bucket; empty: as the machine is set up.")
    blob_cache_bytes: int = Field(
        2048 * MIB, ge=MIB, description="Local copies of blobs in S3, beside what is in use; of each place and folder."
    )
    redis_url: RedisUrl = Field(
        "",
        description="redis://USER:PASSWORD@host:port/0, rediss:// with TLS, unix:///path, or "
        "redis+sentinel://host:port,host:port/service/0 (rediss+sentinel:// with TLS).",
    )
    redis_ca_file: Path | None = Field(
        None, description="CA of Redis's certificate, as PEM; empty: those that the machine trusts."
    )
    redis_prefix: str = Field("penstock", pattern=r"^[a-z0-9-]{1,32}$", description="First part of every Redis key.")
    token_file: Path | None = Field(
        None, description="File with the token that gRPC calls carry; empty: none is asked for."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    trace_exporter: Literal["none", "console", "otlp"] = Field("none", description="Where spans go.")
    planner_address: str = Field("", description="host:port of the planner.")
    scheduler_address: str = Field("", description="host:port of the scheduler.")
    analyzer_address: str = Field("", description="host:port of the analyzer.")
    health_port: Port = Field(0, description="Port of plain gRPC health alone (live, and readiness); 0: none.")
    health_host: str = Field("0.0.0.0", description="Address of the same.")
    metrics_host: str = Field("127.0.0.1", description="Address of Prometheus metrics.")
    tls: TlsSection = Field(default_factory=lambda: TlsSection())
    worker_classes: dict[Name, WorkerClassSettings] = Field(
        default_factory=dict,
        description='Classes of workers, as {"default": {"environment": ["OPENAI_API_KEY"]}}: the names that their '
        "workers have in their environment; none: any class may be named, and what it has is not known.",
    )
    database: DatabaseSection = Field(default_factory=lambda: DatabaseSection())
    migrations: MigrationsSection = Field(default_factory=lambda: MigrationsSection())
    planner: PlannerSection = Field(default_factory=lambda: PlannerSection())
    scheduler: SchedulerSection = Field(default_factory=lambda: SchedulerSection())
    worker: WorkerSection = Field(default_factory=lambda: WorkerSection())
    analyzer: AnalyzerSection = Field(default_factory=lambda: AnalyzerSection())
    gateway: GatewaySection = Field(default_factory=lambda: GatewaySection())

    def blob_folder(self) -> Path:
        if self.blobs is not None:
            return self.blobs
        if self.data is not None:
            return self.data / "blobs"
        raise InvalidInput("no blob store: set PENSTOCK_BLOBS (a folder) or PENSTOCK_DATA", code="settings")

    def processor_folder(self) -> Path | None:
        """Where processors are declared; None: nowhere."""
        if self.processors is not None:
            return self.processors
        return self.data / "processors" if self.data is not None else None

    def token(self) -> str | None:
        """The token that calls carry. Raises InvalidInput when its file can't be read."""
        if self.token_file is None:
            return None
        try:
            return self.token_file.read_text().strip()
        except OSError as error:
            raise InvalidInput(f"token_file {self.token_file}: {error.strerror}", code="settings") from error


def load(environment: Mapping[str, str] | None = None, *, config: Path | None = None) -> Settings:
    """The settings of this process. Raises InvalidInput (code `settings`) that lists every problem, one a line."""
    environment = os.environ if environment is None else environment
    problems: list[str] = []
    tree: dict[str, Any] = {}
    data = environment.get("PENSTOCK_DATA")
    chosen = config or (Path(environment["PENSTOCK_CONFIG"]) if environment.get("PENSTOCK_CONFIG") else None)
    if chosen is None and data and (Path(data) / "penstock.toml").exists():
        chosen = Path(data) / "penstock.toml"
    if chosen is not None:
        try:
            tree = tomllib.loads(chosen.read_text())
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise InvalidInput(f"settings file {chosen}: {why}", code="settings") from error
    if data:
        tree["data"] = data
    leaves = dict(_leaves(Settings))
    known = set(leaves)
    for name, value in environment.items():
        if not name.startswith(PREFIX) or name in CLIENT_NAMES:
            continue
        path = name.removeprefix(PREFIX).lower().replace("__", ".")
        if path not in known:
            problems.append(f"{name}: no such setting{_nearest(path, known)}")
            continue
        if isinstance(leaves[path][0], dict):
            try:
                _put(tree, path.split("."), json.loads(value))
            except ValueError as error:
                problems.append(f"{name}: a JSON object is needed, and this is none: {error}")
            continue
        if path in LISTED:
            try:
                _put(tree, path.split("."), _listed(value))
            except ValueError as error:
                problems.append(f"{name}: what begins with [ is a JSON array of texts, and this is none: {error}")
            continue
        _put(tree, path.split("."), value)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        for item in error.errors():
            path = ".".join(str(part) for part in item["loc"])
            if item["type"] == "extra_forbidden":
                problems.append(f"{path}: no such setting{_nearest(path, known | _beside(item['loc']))}")
            else:
                shown = "" if _is_secret(item["loc"]) else f" (got {item['input']!r})"
                problems.append(f"{path}: {item['msg']}{shown}")
        settings = None
    if problems or settings is None:
        raise InvalidInput("settings are wrong:\n  " + "\n  ".join(problems), code="settings")
    return settings


def _is_secret(place: tuple[int | str, ...]) -> bool:
    """Whether what stands there may have a password: a URL."""
    return any(str(part) == "databases" or str(part).endswith("_url") for part in place)


def _listed(value: str) -> list[str]:
    """The values of a list in the environment. Raises ValueError for what begins as an array of texts and is none:
    taken as one odd name it would switch a guard off, and nobody would see it."""
    if not value.lstrip().startswith("["):
        return value.split(",")
    found = json.loads(value)
    for one in found:
        if not isinstance(one, str):
            raise ValueError(f"{json.dumps(one)} is no text")
    return list(found)


def describe() -> list[tuple[str, str, str]]:
    """Every setting as (dotted name, default, description), as the table in docs/operating.md has it."""
    return [(name, _written(default), text) for name, (default, text) in _leaves(Settings)]


def _written(default: object) -> str:
    """As one would write it in the environment; empty where there is none."""
    if isinstance(default, tuple):
        return ",".join(map(str, default))
    if isinstance(default, float):
        return f"{default:g}"
    return "" if default is None or default == {} else str(default)


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, tuple[object, str]]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _leaves(annotation, f"{prefix}{name}.")
        else:
            text = field.description or ""
            if get_origin(annotation) is Literal:
                text += f" One of {', '.join(get_args(annotation))}."
            yield f"{prefix}{name}", (field.get_default(call_default_factory=True), text)


def _beside(place: tuple[int | str, ...]) -> set[str]:
    """What could stand where an unknown name stands within a setting that holds several things by name."""
    model: Any = Settings
    for part in place[:-1]:
        fields = getattr(model, "model_fields", None)
        model = fields[part].annotation if fields else (get_args(model) or (None,))[-1]
    before = ".".join(map(str, place[:-1]))
    return {f"{before}.{name}" for name in getattr(model, "model_fields", ())}


def _nearest(path: str, known: set[str]) -> str:
    close = difflib.get_close_matches(path, known, 1)
    return f"; did you mean {close[0]}?" if close else ""


def _put(tree: dict[str, Any], path: list[str], value: object) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = value
