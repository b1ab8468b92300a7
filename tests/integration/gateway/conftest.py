"""The real programs, and a job of a few documents that several tests look at."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.servers.stack import Stack, until

ENGLISH = (
    "The harbour office opens at seven, and by then the pilots have already gone out twice. Nobody writes down the "
    "first trip of the day, because the ink freezes. My grandfather kept a list of every ship that came in without "
    "lights, and he was sure that the list would matter to somebody. It never did. We still have it in the kitchen, "
    "behind the flour, and each winter one of us reads a page aloud while the bread is in the oven. The names of the "
    "ships are the best part. There was one that was called the Patient Margaret and another that had no name at all, "
    "only a number, painted over twice. He drew a small anchor beside the ones that he liked."
)
BREAD = (
    "Flour and water look simple until the dough refuses to rise. My neighbour says that the oven is too cold, and my "
    "sister says that the yeast was dead when I bought it, so I asked the baker, who laughed and told me to wait. He "
    "was right. I left the bowl beside the stove for a night and in the morning it had climbed over the rim. Since "
    "then I measure nothing. I keep a jar of the old dough in the cellar, feed it on Sundays, and give half of it away "
    "whenever somebody asks for it. The crust is never the same twice, which used to annoy me and now does not."
)

Upload = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def http(stack: Stack) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.url, timeout=60, trust_env=False) as client:
        yield client


def ended(http: httpx.Client, job_id: int) -> dict[str, Any]:
    """The status object once the job has ended."""

    def status() -> dict[str, Any] | None:
        told: dict[str, Any] = http.get(f"/api/batch/{job_id}/status").json()
        return told if told["status"] in ("COMPLETED", "FAILED") else None

    answer: dict[str, Any] = until(f"job {job_id} ended", status, seconds=40)
    return answer


def documents(*files: tuple[str, bytes]) -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", file) for file in files]


@pytest.fixture(scope="session")
def job(http: httpx.Client) -> dict[str, Any]:
    """A finished job of five documents:

    two alike, one other, one empty, one with a name that spreadsheets would run.
    """
    answer = http.post(
        "/api/batch/upload",
        files=documents(
            ("harbour.txt", ENGLISH.encode()),
            ("folder/harbour again.md", (ENGLISH + " He liked most of them.").encode()),
            ("bread.txt", BREAD.encode()),
            ("empty.txt", b""),
            ("=cmd.txt", ENGLISH[:300].encode()),
        ),
        data={"granularity": "paragraph", "name": "Five documents"},
    )
    assert answer.status_code == 200, answer.text
    return ended(http, answer.json()["job_id"])


@pytest.fixture(scope="package")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A `penstock up` with no runs of other tests, whose planner may read the folder `shelf` beside its data."""
    data = tmp_path_factory.mktemp("shop") / "data"
    shelf = data.parent / "shelf"
    shelf.mkdir()
    data.mkdir()
    (data / "penstock.toml").write_text(f"[planner]\nsource_folders = [{json.dumps(str(shelf))}]\n")
    one = Stack(data)
    try:
        one.start()
        yield one
    finally:
        one.stop()


@pytest.fixture(scope="package")
def buyer(shop: Stack) -> Iterator[httpx.Client]:
    """Asks the shop."""
    with httpx.Client(base_url=shop.url, timeout=60, trust_env=False) as client:
        yield client


Row = dict[str, object]

MICE: list[Row] = [
    {"product_id": f"{brand} {model}".lower().replace(" ", "-"), "brand": brand, "model": model, "variant": variant}
    for brand, model, variant in (
        ("Razer", "Viper 8KHz", None),
        ("Razer", "Viper Mini", None),
        ("Razer", "DeathAdder V3", "Pro"),
        ("Logitech", "G305", None),
        ("Logitech", "G9", None),
        ("Logitech", "G502", "X"),
        ("Acer", "Cestus 350", None),
        ("Acer", "Cestus 310", None),
        ("SteelSeries", "Rival 3", "Wireless"),
        ("SteelSeries", "Rival 10", None),
    )
]


def catalog(http: httpx.Client, name: str, rows: list[Row]) -> dict[str, Any]:
    """Registers rows as a catalog under a name, or as its next version."""
    lines = "\n".join(map(json.dumps, rows))
    files = {"files": (f"{name}.jsonl", lines)}
    answer = http.post("/api/v1/sources", data={"name": name, "kind": "catalog"}, files=files)
    assert answer.status_code == 200, answer.text
    source: dict[str, Any] = answer.json()
    return source


def problem_of(answer: httpx.Response, status: int, code: str) -> str:
    """The sentence of a problem, which has this status and code."""
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    detail: str = answer.json()["detail"]
    return detail
