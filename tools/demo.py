"""`make demo [DOCS=PATH]`: the whole way in one command, with the commands that users have.

It makes the documents (or takes DOCS, a folder, a file or a zip), starts `penstock up` in a data folder of its
own, uploads, shows the progress and the results, writes
demo-out/{results.csv,results.json,report.html}, and stops everything.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tools.descriptions import package_descriptions

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "demo-out"
OWN = ROOT / "examples" / "documents"
FEWEST_DOCUMENTS = 60
READY_SECONDS = 60.0
STOP_SECONDS = 25.0
PENSTOCK = [sys.executable, "-P", "-m", "penstock"]
COMPLETED, COMPLETED_WITH_FAILURES = 0, 3


def say(text: str = "") -> None:
    print(text, flush=True)


def give_up(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr)
    raise SystemExit(1)


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


@contextlib.contextmanager
def running(data: Path) -> Iterator[str]:
    """`penstock up` on a free port; its URL. Stopped whatever happens, as a Ctrl-C would."""
    log = OUT / "penstock.log"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [*PENSTOCK, "up", "--data", str(data)],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            # Not in the terminal's group: a Ctrl-C is ours to pass on, once the demo has said so.
            process_group=0,
        )
    assert process.stdout is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], READY_SECONDS)
        line = process.stdout.readline() if ready else ""
        if not line.startswith("ready "):
            give_up(f"`penstock up` did not start; its log is {log.relative_to(ROOT)}")
        yield line.split()[1]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        process.stdout.close()


def command(data: Path, *arguments: str, quiet: bool = False) -> tuple[int, str]:
    """Runs `penstock …` as a user would; its exit code, and what it printed when `quiet`."""
    if not quiet:
        shown = " ".join(part if " " not in part else f'"{part}"' for part in arguments)
        say(f"\n$ penstock {shown}")
    result = subprocess.run(
        [*PENSTOCK, *arguments, "--data", str(data)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE if quiet else None,
        check=False,
    )
    return result.returncode, result.stdout or ""


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
    place = str(source.relative_to(ROOT)) if source.is_relative_to(ROOT) else str(source)
    csv, page = OUT / "results.csv", OUT / "report.html"
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as folder:
        data = Path(folder)
        with running(data) as url:
            say(f"Penstock:  {url} (for the time of the demo)")
            code, _ = command(
                data, "documents", "analyze", *archive, place, "--export", str(csv.relative_to(ROOT)), "--rows", "15"
            )
            if code not in (COMPLETED, COMPLETED_WITH_FAILURES):
                give_up(f"the job did not complete (exit code {code}); the log is {OUT.name}/penstock.log")
            _, listed = command(data, "documents", "list", "--limit", "1", "--json", quiet=True)
            job = json.loads(listed)[0]
            _, _ = command(
                data,
                "documents",
                "show",
                str(job["job_id"]),
                "--export",
                str(OUT / "results.json"),
                "--json",
                quiet=True,
            )
            fetch(f"{url}/api/batch/{job['job_id']}/report", page)
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
    try:
        raise SystemExit(main())
    except KeyboardInterrupt:
        print("\ndemo: stopped", file=sys.stderr)
        raise SystemExit(1) from None
