"""The whole product as pods: documents in by the gateway's service, results out; the chart's own test batch."""

from __future__ import annotations

import time
from typing import Any

from analyzer.domain.detector import Detector
from analyzer.domain.model import default_path, load
from tests.cluster.images import ROOT
from tests.cluster.node.product import READY_SECONDS, Product
from tests.cluster.programs.daemon import wait_until
from tests.cluster.showing import tell
from tools.descriptions import package_descriptions

OWN = ROOT / "examples" / "documents"


def demo_documents() -> dict[str, str]:
    """What `make demo` takes: descriptions of packages, and the texts of the examples."""
    found = {f"packages/{name}.txt": f"{text}\n" for name, text in package_descriptions().items()}
    return found | {f"examples/{path.name}": path.read_text() for path in sorted(OWN.glob("*.txt"))}


def analyzed(product: Product, documents: dict[str, str]) -> dict[str, Any]:
    """The results of documents that are uploaded at the gateway's service, once their job is over."""
    files = [("files", (name, text.encode())) for name, text in documents.items()]
    answer = product.http.post("/api/batch/upload", files=files)
    assert answer.is_success, answer.text
    job = answer.json()["job_id"]
    status: dict[str, Any] = {}

    def over() -> bool:
        status.update(product.http.get(f"/api/batch/{job}/status").json())
        return status["status"] not in ("PENDING", "PROCESSING")

    wait_until(over, "the job is over", seconds=READY_SECONDS)
    assert status["status"] == "COMPLETED", status
    results = product.http.get(f"/api/batch/{job}/results")
    assert results.is_success, results.text
    return dict(results.json())


def test_documents_of_the_demo_come_back_as_the_analysis_in_this_process_says(product: Product) -> None:
    documents = demo_documents()
    began = time.monotonic()
    with product.watching("documents"):
        results = analyzed(product, documents)
    seconds = time.monotonic() - began
    rows = {row["filename"]: row for row in results["documents"]}
    assert sorted(rows) == sorted(documents)
    assert {row["status"] for row in rows.values()} == {"COMPLETED"}
    names = [name for name in documents if name.startswith("examples/")]
    here = Detector(load(default_path())).analyze([documents[name] for name in names], "sentence")
    told = [rows[name]["ai_probability"] for name in names]
    # A list of documents says three digits.
    assert told == [None if one.probability is None else round(one.probability, 3) for one in here]
    assert [rows[name]["word_count"] for name in names] == [one.word_count for one in here]
    tell("documents", f"{len(documents)} documents, upload to results: {seconds:.1f} s")


def test_the_charts_own_test_runs_a_real_batch(product: Product) -> None:
    before = len(product.get("runs", page_size=1_000)["runs"])
    told = product.helm("test", product.release, "--logs", "--timeout", "5m")
    assert "Succeeded" in told, told
    assert "mill.txt" in told
    assert "rain.txt" in told
    assert len(product.get("runs", page_size=1_000)["runs"]) == before + 1
