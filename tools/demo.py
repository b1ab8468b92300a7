"""`make demo [DOCS=PATH]`: the whole way in one command, with the commands that users have.

It makes the documents (or takes DOCS, a folder, a file or a zip), starts `penstock up` in a data folder of its
own, uploads, shows the progress and the results, writes
demo-out/{results.csv,results.json,report.html}, and stops everything.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

from tools.demo_penstock import (
    COMPLETED,
    COMPLETED_WITH_FAILURES,
    OUT,
    ROOT,
    give_up,
    place_of,
    play,
    running,
    say,
)
from tools.descriptions import package_descriptions

OWN = ROOT / "examples" / "documents"
FEWEST_DOCUMENTS = 60


def default_documents() -> Path:
    """The demo's own input: a folder of plain text, and the same as a zip. Returns the zip."""
    folder = OUT / "documents"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "packages").mkdir(parents=True)
    (folder / "examples").mkdir()
    descriptions = package_descriptions()
    for name, text in descriptions.items():
        safe = re.sub(r"[^a-z0-9._-]", "-", name)
        (folder / "packages" / f"{safe}.txt").write_text(text + "\n")
    own = sorted(OWN.glob("*.txt"))
    for path in own:
        shutil.copyfile(path, folder / "examples" / path.name)
    count = len(descriptions) + len(own)
    if count < FEWEST_DOCUMENTS:
        give_up(f"only {count} documents found, {FEWEST_DOCUMENTS} are wanted: run `make setup` again")
    archive = OUT / "documents.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*.txt")):
            file.write(path, path.relative_to(folder).as_posix())
    say(f"Documents: {len(descriptions)} package descriptions from this machine and {len(own)} texts of our own,")
    say(f"           in {folder.relative_to(ROOT)}/ and {archive.relative_to(ROOT)}")
    return archive


def fetch(url: str, path: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=60) as answer, path.open("wb") as file:
        shutil.copyfileobj(answer, file)


def main() -> int:
    began = time.monotonic()
    OUT.mkdir(exist_ok=True)
    for name in ("results.csv", "results.json", "report.html"):
        (OUT / name).unlink(missing_ok=True)
    given = sys.argv[1] if len(sys.argv) > 1 else ""
    source = Path(given).expanduser().absolute() if given else default_documents()
    if not source.exists():
        give_up(f"DOCS={given}: there is no such file or folder")
    archive = ["--zip"] if source.is_file() and source.suffix.lower() == ".zip" else []
    place = place_of(source)
    csv, page = OUT / "results.csv", OUT / "report.html"
    with (
        tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder,
        running(Path(folder), OUT / "penstock.log") as penstock,
    ):
        say(f"Penstock:  {penstock.url} (for the time of the demo)")
        line = ("documents", "analyze", *archive, place, "--export", place_of(csv), "--rows", "15")
        penstock.run(*line, accept=(COMPLETED, COMPLETED_WITH_FAILURES))
        job = penstock.ask_json("documents", "list", "--limit", "1")[0]
        penstock.ask("documents", "show", str(job["job_id"]), "--export", str(OUT / "results.json"), "--json")
        fetch(f"{penstock.url}/api/batch/{job['job_id']}/report", page)
        results = json.loads((OUT / "results.json").read_text())
    failed = sum(row["status"] == "FAILED" for row in results["documents"])
    say()
    clusters = len(results["clusters"])
    plural = "" if clusters == 1 else "s"
    say(
        f"Done in {time.monotonic() - began:.0f} s: {job['total_documents']} documents, {clusters} cluster{plural}"
        + (f", {failed} documents failed (results.csv says why)" if failed else "")
        + ". Everything is stopped again."
    )
    say(f"  {page.relative_to(ROOT)}    the report: open it in a browser, it needs no server")
    say(f"  {csv.relative_to(ROOT)}    one line a document")
    say(f"  {OUT.name}/results.json   the same, for programs")
    say("What the AI probability can and cannot claim: docs/detector.md")
    return 0


if __name__ == "__main__":
    play(main)
