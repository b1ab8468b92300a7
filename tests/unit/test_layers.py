"""The layering rules: a service imports `penstock` and itself; `domain/` is pure; `penstock` imports no service."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SERVICES = ("planner", "scheduler", "worker", "analyzer", "gateway")
OURS = (*SERVICES, "penstock", "tests", "tools")
IMPURE = ("grpc", "redis", "sqlalchemy", "fastapi", "uvicorn", "httpx", "kubernetes", "psycopg", "duckdb", "sqlite3")
PURE = ("penstock.words", "penstock.amounts", "penstock.pod_reasons")
"""What of our own `domain/` may import beside itself."""
MODULES = [path for top in (*SERVICES, "penstock") for path in sorted((ROOT / top).rglob("*.py"))]


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, dotted module) of every import in the file, wherever it stands."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found.append((node.lineno, node.module or ""))
    return found


def test_there_is_something_to_check() -> None:
    assert len(MODULES) > 50


@pytest.mark.parametrize("top", [*SERVICES, "penstock"])
def test_a_service_imports_penstock_and_itself_and_penstock_no_service(top: str) -> None:
    allowed = {top, "penstock"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in MODULES
        if path.relative_to(ROOT).parts[0] == top
        for line, name in imports(path)
        if name.split(".")[0] in OURS and name.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


def test_domain_is_pure() -> None:
    wrong = []
    for path in MODULES:
        relative = path.relative_to(ROOT)
        if "domain" not in relative.parts:
            continue
        service = relative.parts[0]
        for line, name in imports(path):
            top = name.split(".")[0]
            outside = top in OURS and not name.startswith(f"{service}.domain") and name not in PURE
            if top in IMPURE or outside:
                wrong.append(f"{relative}:{line}: imports {name}")
    assert not wrong, "\n".join(wrong)


def test_the_runtime_knows_nothing_of_what_runs_on_it() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: imports {name}"
        for path in MODULES
        if path.relative_to(ROOT).parts[:2] == ("penstock", "runtime")
        for line, name in imports(path)
        if name.startswith("penstock.") and not name.startswith(("penstock.runtime", "penstock.v1"))
    ]
    assert not wrong, "\n".join(wrong)


def test_a_module_says_why_it_exists() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in MODULES
        if "penstock/v1" not in str(path) and path.stat().st_size and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, f"no module docstring: {silent}"


def test_a_file_holds_one_thing() -> None:
    long = [
        f"{path.relative_to(ROOT)}: {len(path.read_text().splitlines())} lines"
        for path in MODULES
        if "penstock/v1" not in str(path) and len(path.read_text().splitlines()) > 425
    ]
    assert not long, f"past 425 lines: {long}"
