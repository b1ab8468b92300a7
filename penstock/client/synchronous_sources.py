"""Sources and plans for code without an event loop; what each call does is told by the class of the same name that it
hands over to (`penstock.client.sources`, `plans`). `on_bytes` is called on the client's own thread."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence

from penstock.client.asynchronous import AsyncClient
from penstock.client.blocking import Loop
from penstock.client.plans import StageOptions
from penstock.client.selections import Ordering, Selection
from penstock.client.uploads import OnBytes, PathLike
from penstock.v1 import common_pb2, planner_pb2, sources_pb2

__all__ = ["Plans", "Sources"]


class Sources:
    """See `penstock.client.sources.Sources`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.sources

    def documents(
        self,
        paths: Sequence[PathLike],
        *,
        zip: bool = False,  # noqa: A002
        name: str = "",
        on_bytes: OnBytes | None = None,
    ) -> planner_pb2.Source:
        return self._loop.run(self._it.documents(paths, zip=zip, name=name, on_bytes=on_bytes))

    def items(self, items: PathLike | Sequence[Mapping[str, object]], *, name: str = "") -> planner_pb2.Source:
        return self._loop.run(self._it.items(items, name=name))

    def catalog(
        self,
        paths: Sequence[PathLike],
        *,
        name: str = "",
        format: str = "",  # noqa: A002
        key: Sequence[str] = (),
        group: str = "",
        sort: Sequence[str] = (),
        skip_bad: bool = False,
        on_bytes: OnBytes | None = None,
        request_id: str = "",
    ) -> planner_pb2.Source:
        return self._loop.run(
            self._it.catalog(
                paths,
                name=name,
                format=format,
                key=key,
                group=group,
                sort=sort,
                skip_bad=skip_bad,
                on_bytes=on_bytes,
                request_id=request_id,
            )
        )

    def table(
        self,
        path: PathLike,
        *,
        table: str = "",
        query: str = "",
        name: str = "",
        key: Sequence[str] = (),
        group: str = "",
        sort: Sequence[str] = (),
        skip_bad: bool = False,
        on_bytes: OnBytes | None = None,
        request_id: str = "",
    ) -> planner_pb2.Source:
        return self._loop.run(
            self._it.table(
                path,
                table=table,
                query=query,
                name=name,
                key=key,
                group=group,
                sort=sort,
                skip_bad=skip_bad,
                on_bytes=on_bytes,
                request_id=request_id,
            )
        )

    def tasks(
        self, path: PathLike, *, name: str = "", each_task: bool = False, batch_size: int = 0, request_id: str = ""
    ) -> planner_pb2.Source:
        return self._loop.run(
            self._it.tasks(path, name=name, each_task=each_task, batch_size=batch_size, request_id=request_id)
        )

    def add(
        self,
        name: str,
        *,
        server_path: str = "",
        database: str = "",
        table: str = "",
        query: str = "",
        kind: str = "",
        format: str = "",  # noqa: A002
        key: Sequence[str] = (),
        group: str = "",
        sort: Sequence[str] = (),
        skip_bad: bool = False,
        each_task: bool = False,
        batch_size: int = 0,
        request_id: str = "",
    ) -> planner_pb2.Source:
        return self._loop.run(
            self._it.add(
                name,
                server_path=server_path,
                database=database,
                table=table,
                query=query,
                kind=kind,
                format=format,
                key=key,
                group=group,
                sort=sort,
                skip_bad=skip_bad,
                each_task=each_task,
                batch_size=batch_size,
                request_id=request_id,
            )
        )

    def refresh(self, name: str, *, request_id: str = "") -> planner_pb2.Source:
        return self._loop.run(self._it.refresh(name, request_id=request_id))

    def get(self, source: str) -> planner_pb2.Source:
        return self._loop.run(self._it.get(source))

    def describe(self, source: str) -> planner_pb2.SourceDescription:
        return self._loop.run(self._it.describe(source))

    def list(self, *, search: str = "", kind: str = "", limit: int = 50) -> builtins.list[planner_pb2.Source]:
        return self._loop.run(self._it.list(search=search, kind=kind, limit=limit))

    def versions(self, name: str, *, limit: int = 50) -> builtins.list[planner_pb2.Source]:
        return self._loop.run(self._it.versions(name, limit=limit))

    def rows(
        self,
        source: str,
        *,
        filter: str = "",  # noqa: A002
        search: str = "",
        order_by: str = "",
        skip: int = 0,
        page_size: int = 100,
        with_groups: bool = False,
        result_of: str = "",
    ) -> sources_pb2.RowPage:
        return self._loop.run(
            self._it.rows(
                source,
                filter=filter,
                search=search,
                order_by=order_by,
                skip=skip,
                page_size=page_size,
                with_groups=with_groups,
                result_of=result_of,
            )
        )

    def remove(self, name: str, *, validate_only: bool = False) -> planner_pb2.DeleteSourceResponse:
        return self._loop.run(self._it.remove(name, validate_only=validate_only))


class Plans:
    """See `penstock.client.plans.Plans`."""

    def __init__(self, loop: Loop, client: AsyncClient) -> None:
        self._loop, self._it = loop, client.plans

    def create(
        self,
        source_id: str,
        *,
        stages: Sequence[StageOptions] = (),
        selection: Selection | None = None,
        ordering: Ordering | None = None,
        profile: str = "",
        granularity: str = "",
        name: str = "",
        actor: str = "",
        validate_only: bool = False,
        request_id: str = "",
    ) -> planner_pb2.Plan:
        return self._loop.run(
            self._it.create(
                source_id,
                stages=stages,
                selection=selection,
                ordering=ordering,
                profile=profile,
                granularity=granularity,
                name=name,
                actor=actor,
                validate_only=validate_only,
                request_id=request_id,
            )
        )

    def get(self, plan_id: str, *, budget_micros: int | None = None) -> planner_pb2.Plan:
        return self._loop.run(self._it.get(plan_id, budget_micros=budget_micros))

    def list(
        self, *, search: str = "", source: str = "", processor: str = "", actor: str = "", limit: int = 50
    ) -> builtins.list[planner_pb2.Plan]:
        return self._loop.run(
            self._it.list(search=search, source=source, processor=processor, actor=actor, limit=limit)
        )

    def rename(self, plan_id: str, name: str, *, etag: str = "") -> planner_pb2.Plan:
        return self._loop.run(self._it.rename(plan_id, name, etag=etag))

    def remove(
        self, plan_id: str, *, etag: str = "", force: bool = False, validate_only: bool = False
    ) -> planner_pb2.DeletePlanResponse:
        return self._loop.run(self._it.remove(plan_id, etag=etag, force=force, validate_only=validate_only))

    def rows(
        self,
        plan_id: str,
        *,
        filter: str = "",  # noqa: A002
        search: str = "",
        order_by: str = "",
        skip: int = 0,
        page_size: int = 100,
        with_groups: bool = False,
        result_of: str = "",
        stage: int = 0,
    ) -> sources_pb2.RowPage:
        return self._loop.run(
            self._it.rows(
                plan_id,
                filter=filter,
                search=search,
                order_by=order_by,
                skip=skip,
                page_size=page_size,
                with_groups=with_groups,
                result_of=result_of,
                stage=stage,
            )
        )

    def estimates(
        self, *, plan_id: str = "", page_size: int = 20, page_token: str = ""
    ) -> planner_pb2.ListEstimatesResponse:
        return self._loop.run(self._it.estimates(plan_id=plan_id, page_size=page_size, page_token=page_token))

    def copy(
        self, plan_id: str, *, name: str = "", changes: StageOptions | None = None, request_id: str = ""
    ) -> planner_pb2.Plan:
        return self._loop.run(self._it.copy(plan_id, name=name, changes=changes, request_id=request_id))

    def save(self, plan_id: str, path: PathLike, *, without_source: bool = False) -> int:
        return self._loop.run(self._it.save(plan_id, path, without_source=without_source))

    def load(self, path: PathLike, *, name: str = "", request_id: str = "") -> planner_pb2.Plan:
        return self._loop.run(self._it.load(path, name=name, request_id=request_id))

    def compare(self, plan_id: str, other_plan_id: str) -> planner_pb2.PlanComparison:
        return self._loop.run(self._it.compare(plan_id, other_plan_id))

    def sample(self, plan_id: str, size: int, *, name: str = "", request_id: str = "") -> planner_pb2.Plan:
        return self._loop.run(self._it.sample(plan_id, size, name=name, request_id=request_id))

    def profiles(self) -> builtins.list[planner_pb2.Profile]:
        return self._loop.run(self._it.profiles())

    def items(self, plan_id: str, *, stage: int = 0) -> Iterator[common_pb2.Item]:
        return self._loop.each(self._it.items(plan_id, stage=stage))
