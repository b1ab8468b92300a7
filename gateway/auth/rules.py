"""The one table: which role a route needs at least. A route that is not in it is refused to everybody.

    viewer     looks: every GET but the list of tokens and the diagnosis
    operator   acts: uploads, sources, plans, runs, items, gates; closes and opens a limit, stops retries, diagnoses
    admin      decides what all share: limits, prices, budgets of runs that are under way, removes sources, tokens

`python -m gateway.auth.rules` prints it as docs/http.md has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from gateway.auth.roles import Role

__all__ = ["RULES", "Rules", "table"]

_TABLE: Mapping[Role, tuple[str, ...]] = {
    Role.ANYONE: (
        "GET /healthz",
        "GET /readyz",
        "GET /app.css",
        "GET /icon.svg",
        "GET /login.js",
        "POST /api/v1/session",
        "DELETE /api/v1/session",
    ),
    Role.VIEWER: (
        "GET /",
        "GET /app.js",
        "GET /amounts.js",
        "GET /operating.js",
        "GET /openapi.json",
        "GET /metrics",
        "GET /api/v1/session",
        "GET /api/batch/jobs",
        "GET /api/batch/{job_id}/status",
        "GET /api/batch/{job_id}/results",
        "GET /api/batch/{job_id}/export",
        "GET /api/batch/{job_id}/documents/{document_id}",
        "GET /api/batch/{job_id}/report",
        "GET /api/batch/{job_id}/events",
        "GET /api/v1/collections/{run_id}",
        "GET /api/v1/collections/{run_id}/documents",
        "GET /api/v1/processors",
        "GET /api/v1/processors/{name}",
        "GET /api/v1/processors/{name}/check",
        "GET /api/v1/endpoints",
        "GET /api/v1/sources",
        "GET /api/v1/sources/{source}",
        "GET /api/v1/sources/{source}/versions",
        "GET /api/v1/sources/{source}/statistics",
        "GET /api/v1/sources/{source}/rows",
        "GET /api/v1/plans",
        "GET /api/v1/plans/{plan_id}",
        "GET /api/v1/plans/{plan_id}/items",
        "GET /api/v1/plans/{plan_id}/rows",
        "GET /api/v1/plans/{plan_id}/export",
        "GET /api/v1/plans/{plan_id}/diff/{other}",
        "GET /api/v1/profiles",
        "GET /api/v1/estimates",
        "GET /api/v1/indexlab/batch/plan/{plan_id}",
        "GET /api/v1/indexlab/batch/latest",
        "GET /api/v1/indexlab/batch/{batchRunId}/status",
        "GET /api/v1/indexlab/batch/{batchRunId}/items",
        "GET /api/v1/runs",
        "GET /api/v1/runs/{run_id}",
        "GET /api/v1/runs/{run_id}/summary",
        "GET /api/v1/runs/{run_id}/explain",
        "GET /api/v1/runs/{run_id}/ledger",
        "GET /api/v1/runs/{run_id}/gates",
        "GET /api/v1/runs/{run_id}/events",
        "GET /api/v1/runs/{run_id}/events/stream",
        "GET /api/v1/runs/{run_id}/items",
        "GET /api/v1/runs/{run_id}/items/{stage}/{seq}",
        "GET /api/v1/runs/{run_id}/items/{stage}/{seq}/explain",
        "GET /api/v1/gates",
        "GET /api/v1/events",
        "GET /api/v1/items",
        "GET /api/v1/actions/{action_id}",
        "GET /api/v1/limits",
        "GET /api/v1/limits/events",
        "GET /api/v1/limits/{key:path}",
        "GET /api/v1/limits/{key:path}/events",
        "GET /api/v1/prices",
        "GET /api/v1/retries",
        "GET /api/v1/workers",
        "GET /api/v1/workers/{session}/log",
        "GET /api/v1/classes",
    ),
    Role.OPERATOR: (
        "POST /api/batch/upload",
        "POST /api/v1/sources",
        "POST /api/v1/sources/add",
        "POST /api/v1/sources/{source}/refresh",
        "POST /api/v1/plans",
        "POST /api/v1/plans/import",
        "POST /api/v1/plans/{plan_id}/copy",
        "POST /api/v1/plans/{plan_id}/sample",
        "PATCH /api/v1/plans/{plan_id}",
        "DELETE /api/v1/plans/{plan_id}",
        "POST /api/v1/indexlab/batch/plan",
        "POST /api/v1/indexlab/batch/start",
        "POST /api/v1/indexlab/batch/pause",
        "POST /api/v1/indexlab/batch/resume",
        "POST /api/v1/indexlab/batch/stop",
        "POST /api/v1/runs",
        "PATCH /api/v1/runs/{run_id}",
        "POST /api/v1/runs/{run_id}/pause",
        "POST /api/v1/runs/{run_id}/resume",
        "POST /api/v1/runs/{run_id}/stop",
        "POST /api/v1/runs/{run_id}/clone",
        "POST /api/v1/runs/{run_id}/actions",
        "POST /api/v1/runs/{run_id}/gates/{gate}/approve",
        "POST /api/v1/runs/{run_id}/gates/{gate}/reject",
        "POST /api/v1/limits/{key:path}/close",
        "POST /api/v1/limits/{key:path}/open",
        "PUT /api/v1/retries",
        "POST /api/v1/workers/drain",
        "GET /api/v1/diagnosis",
    ),
    Role.ADMIN: (
        "DELETE /api/v1/sources/{source}",
        "PUT /api/v1/limits/{key:path}",
        "DELETE /api/v1/limits/{key:path}",
        "PUT /api/v1/prices/{processor}",
        "GET /api/v1/tokens",
        "POST /api/v1/tokens",
        "DELETE /api/v1/tokens/{token}",
    ),
}

RULES: Mapping[str, Role] = {line: role for role, lines in _TABLE.items() for line in lines}
"""`METHOD /path` as the route has it -> the least role."""


@dataclass(frozen=True)
class Rule:
    """least None: the route stands in no rule. path: the route's own; "" where there is none at this address."""

    least: Role | None
    path: str


class Rules:
    """The table over the routes of the application, in its order: the first that matches is the one that answers."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = [route for route in routes if isinstance(route, Route)]

    def of(self, scope: Scope) -> Rule:
        for route in self._routes:
            if route.matches(dict(scope))[0] is Match.FULL:
                # HEAD asks less than GET.
                method = "GET" if scope["method"] == "HEAD" else scope["method"]
                return Rule(RULES.get(f"{method} {route.path}"), route.path)
        return Rule(Role.VIEWER, "")  # 404 and 405 are told to whoever may look

    def unruled(self) -> list[str]:
        """Routes without a rule: there must be none."""
        return sorted(set(self.lines()) - set(RULES))

    def lines(self) -> list[str]:
        """Every route as the table names it."""
        return [
            f"{method} {route.path}"
            for route in self._routes
            for method in sorted(route.methods or ())
            if method != "HEAD"
        ]


def table() -> str:
    """The table for docs/http.md, a line for each path."""
    paths: dict[str, dict[Role, list[str]]] = {}
    for line, role in RULES.items():
        method, path = line.split(" ", 1)
        paths.setdefault(path.replace(":path}", "}"), {}).setdefault(role, []).append(method)
    rows = ["| route | anyone | viewer | operator | admin |", "|---|---|---|---|---|"]
    for path in sorted(paths):
        cells = [", ".join(sorted(paths[path].get(role, ()))) for role in Role]
        rows.append(f"| `{path}` | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
