"""`make demo-issues [DATA=FILE] [FRESH=1]`: labels for issues that have none, by what was recorded of them.

It takes the issues of examples/issues (or of DATA, JSONL or CSV with repo, title, body and label; or the 1,500 beside
the project, where they are), hides the labels of some, lets scikit-learn learn from the others, and has the program
of examples/issues label issues through Penstock: `process missing`, `process reprocess --threshold`, `process custom`.
Then it starts Penstock again and asks for the same: nothing is left to do. Its data folder is kept, so that the whole
demo, run again, has nothing left to do either; FRESH=1 forgets it. The hidden labels say how good the labels are.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tools.demo_penstock import (
    OUT,
    ROOT,
    Penstock,
    fresh_folder,
    give_up,
    headline,
    place_of,
    play,
    running,
    say,
)

EXAMPLE = ROOT / "examples" / "issues"
BESIDE = ROOT.parent / "shared" / "data" / "issues" / "issues_train.csv.gz"
PLACE = OUT / "issues"
DONE = PLACE / "done"
THRESHOLD = 0.7
"""Also in unsure.sql."""
LONGEST_CELL = 16 * 1024 * 1024
LARGE = ("--param", "model=large")
HAND_OVER = ("--param", f"hand_over={THRESHOLD}")
SHOWN = ("--columns", "repo,title", "--limit", "5")
CONCURRENCY = ("--concurrency", "8")
STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("what has no label yet: the words of the title decide", ("missing", "issue-label")),
    (
        f"what is less sure than {THRESHOLD}: once more, with the text",
        ("reprocess", "issue-label", "--threshold", str(THRESHOLD), *LARGE),
    ),
    (
        "what is unsure still: to a person, the least sure first",
        ("custom", "issue-label", "@examples/issues/unsure.sql", "--as-selected", *LARGE, *HAND_OVER),
    ),
)


def issues_of(path: Path) -> list[dict[str, Any]]:
    """Issues of a JSONL or CSV file, gzip or not. Ends the demo where they have no repo, title or label."""
    found: list[dict[str, Any]] = []
    try:
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        if path.name.removesuffix(".gz").endswith(".csv"):
            csv.field_size_limit(LONGEST_CELL)
            found = list(csv.DictReader(text.splitlines(keepends=True)))
        else:
            found = [dict(json.loads(line)) for line in text.splitlines()]
    except (ValueError, TypeError, OSError, EOFError, csv.Error) as error:
        give_up(f"{path} can't be read as JSON lines or CSV: {error}")
    for number, issue in enumerate(found, 1):
        issue.setdefault("number", number)
        missing = [name for name in ("repo", "title", "label") if not issue.get(name)]
        if missing:
            give_up(f"{path}, issue {number} has no {', '.join(missing)}")
    if len({issue["label"] for issue in found}) < 2:
        give_up(f"{path}: two different labels are needed to learn from")
    return found


def key_of(issue: dict[str, Any]) -> str:
    return f"{issue['repo']}/{issue['number']}"


def split(issues: list[dict[str, Any]]) -> set[str]:
    """Keys of those whose labels may be learned from: closed ones. Where there are no states, half of them, by a hash,
    count as closed."""
    for issue in issues:
        if not issue.get("state"):
            issue["state"] = "closed" if hashlib.sha256(key_of(issue).encode()).digest()[0] < 128 else "open"
    return {key_of(issue) for issue in issues if issue["state"] != "open"}


def catalog_of(issues: list[dict[str, Any]], known: set[str]) -> str:
    """JSON lines as a tracker would give them: what nobody has triaged has no label."""
    rows = ({**one, "label": one["label"] if key_of(one) in known else None} for one in issues)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def inputs_of(catalog: str) -> str:
    """All that the labels depend on, as a hash: with another one, what was kept is of no use."""
    digest = hashlib.sha256(catalog.encode())
    for path in sorted(EXAMPLE.glob("*")):
        if path.suffix in (".py", ".toml", ".sql"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def install(catalog: Path) -> None:
    """The labeller into the folder of processors, and what it learned beside it."""
    folder = PLACE / "data" / "processors"
    folder.mkdir(parents=True)
    say(f"\n$ mkdir -p {place_of(folder)}")
    say(f"$ cp {place_of(EXAMPLE)}/*.py {place_of(EXAMPLE)}/*.toml {place_of(folder)}/")
    for path in sorted(EXAMPLE.glob("*")):
        if path.suffix in (".py", ".toml"):
            shutil.copyfile(path, folder / path.name)
    say(f"\n$ python {place_of(folder)}/train.py {place_of(catalog)} {place_of(folder)}")
    line = [sys.executable, str(folder / "train.py"), str(catalog), str(folder)]
    # Not in the terminal's group: a Ctrl-C is the demo's alone, which ends it.
    if subprocess.run(line, cwd=ROOT, check=False, process_group=0).returncode:
        give_up("the labeller could not be trained: see above")


def labels_of(penstock: Penstock) -> dict[str, dict[str, Any]]:
    """What was recorded of each issue, by its key."""
    rows = penstock.rows("issues", result_of="issue-label")
    return {row["key"]: row["result"]["value"] for row in rows if row["result"] is not None}


def show_labels(found: dict[str, dict[str, Any]], hidden: dict[str, str]) -> None:
    """How many got which label, and how often that is the label that was hidden."""
    count = Counter(result["label"] for result in found.values())
    for label, number in sorted(count.items()):
        say(f"  {label:<10}{number:>6} {'▇' * max(1, round(40 * number / len(found)))}")
    judged = [(result["label"], hidden[key]) for key, result in found.items() if key in hidden]
    sure = [given == label for given, label in judged if given != "triage"]
    words = f"of {len(judged)} issues whose label was hidden"
    if sure:
        words += f" {len(sure)} got one: {sum(sure)} the same ({sum(sure) / len(sure):.0%})"
    say(f"  {words}; {len(judged) - len(sure)} go to a person")


def process(penstock: Penstock, step: tuple[str, ...]) -> None:
    penstock.run("process", *step, "--source", "issues", *CONCURRENCY, "--yes")


def label_all(penstock: Penstock, catalog: Path, hidden: dict[str, str]) -> None:
    headline("the issues")
    penstock.run("sources", "add", "issues", place_of(catalog), "--key", "repo,number", "--group", "repo")
    for title, step in STEPS:
        headline(title)
        if step[0] == "missing":
            penstock.run("process", *step, "--source", "issues", "--dry-run")
        process(penstock, step)
        say()
        show_labels(labels_of(penstock), hidden)


def ask_again(penstock: Penstock) -> None:
    """The same three commands; ends the demo where one of them finds something to do."""
    before = len(penstock.ask_json("runs", "list"))
    for _, step in STEPS:
        process(penstock, step)
    more = len(penstock.ask_json("runs", "list")) - before
    if more:
        give_up(f"{more} runs were started, though nothing was left to do")
    penstock.run("process", "history")
    unsure = ("--filter", "result.value.label = triage", "--order-by", "result.value.guess_confidence")
    penstock.run("sources", "rows", "issues", "--result-of", "issue-label", *unsure, *SHOWN)
    say()


def source_of(given: str) -> Path:
    if given:
        path = Path(given).expanduser().absolute()
        if not path.is_file():
            give_up(f"DATA={given}: there is no such file")
        return path
    return BESIDE if BESIDE.is_file() else EXAMPLE / "issues.jsonl"


def main() -> int:
    began = time.monotonic()
    given, fresh = (*sys.argv[1:], "", "")[:2]
    source = source_of(given)
    issues = issues_of(source)
    states = all(issue.get("state") for issue in issues)
    known = split(issues)
    rows = catalog_of(issues, known)
    inputs = inputs_of(rows)
    first = bool(fresh) or not DONE.exists() or DONE.read_text() != inputs
    catalog, log = PLACE / "catalog.jsonl", PLACE / "penstock.log"
    hidden = {key_of(issue): issue["label"] for issue in issues if key_of(issue) not in known}
    say(
        f"Issues:    {len(issues)} of {place_of(source)}. The {len(known)} closed ones have labels to learn from; those"
    )
    say(f"           of the {len(hidden)} open ones are hidden. The labeller is a program here: nothing is paid.")
    if not states:
        say("           The file knows no states: half of the issues, by a hash, count as closed.")
    if first:
        fresh_folder(PLACE)
        catalog.write_text(rows)
        headline("a labeller, and what it learns")
        install(catalog)
        with running(PLACE / "data", log) as penstock:
            say(f"\nPenstock:  {penstock.url} (for the time of the demo)")
            label_all(penstock, catalog, hidden)
        DONE.write_text(inputs)
    else:
        say(f"           They were labelled before: {place_of(PLACE)} has it. FRESH=1 begins anew.")
    headline("all of it a second time")
    with running(PLACE / "data", log) as penstock:
        ask_again(penstock)
        found = labels_of(penstock)
        show_labels(found, hidden)
        spent = sum(run["money"]["spent_micros"] for run in penstock.ask_json("runs", "list"))
    with (PLACE / "labels.jsonl").open("w") as file:
        for key, result in sorted(found.items()):
            file.write(json.dumps({"key": key, **result}, ensure_ascii=False) + "\n")
    took = time.monotonic() - began
    say(f"\nNothing is left to do. All of it cost {spent / 1_000_000:g} dollars. Done in {took:.0f} s, all is stopped.")
    say(f"  {place_of(PLACE)}/labels.jsonl   one line an issue")
    say(f"  {place_of(EXAMPLE)}/             the labeller and how it learns")
    say(f"  .venv/bin/penstock up --data {place_of(PLACE)}/data   to look at it yourself")
    return 0


if __name__ == "__main__":
    play(main)
