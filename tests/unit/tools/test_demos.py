"""What the demos are made of: pages that say what they are, a labeller that computes what was learned, inputs that fit.

The demos as a whole are run by CI.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from penstock.declared.declaration import Declaration, read
from tools import demo_issues, demo_penstock, demo_products
from tools.demo_pages import NOTICE, SHOPS, Page, Seen, page_of, write_pages

ROOT = Path(__file__).resolve().parents[3]
PRODUCTS = ROOT / "examples" / "products"
ISSUES = ROOT / "examples" / "issues"


def program(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """An example's program as a module; what lies beside it can be imported, as when it runs by itself."""
    monkeypatch.syspath_prepend(str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def products() -> list[dict[str, Any]]:
    return demo_products.products_of(PRODUCTS / "mice.jsonl")


def test_the_catalog_is_names_alone() -> None:
    found = products()
    assert len(found) == len({one["product_id"] for one in found}) == 246
    assert len({one["brand"] for one in found}) == 25
    assert {name for one in found for name in one} == {"product_id", "brand", "model", "variant", "sku"}


def test_every_page_says_that_it_was_made_up_and_is_the_same_again() -> None:
    pages = [page_of(product) for product in products()]
    assert all(NOTICE in page.html and NOTICE in page.sheet for page in pages)
    assert pages == [page_of(dict(reversed(product.items()))) for product in products()]
    assert {page.domain for page in pages} == set(SHOPS)
    assert len({page.url for page in pages}) == len(pages)


def test_a_page_and_its_sheet_say_the_same_and_only_the_sheet_of_a_broken_one_says_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = program(PRODUCTS / "product_page.py", monkeypatch)
    pages = [page_of(product) for product in products()]
    for page in pages:
        sheet = reader.fields_of(page.sheet, sheet=True)
        assert sheet["price"] > 0
        table = reader.fields_of(page.html, sheet=False)
        assert table == (dict.fromkeys(reader.FIELDS) if page.broken else sheet)
    broken = sum(page.broken for page in pages)
    assert 0 < broken < len(pages) / 5


def test_names_are_no_markup_and_ids_no_paths(tmp_path: Path) -> None:
    page = page_of({"product_id": "../a/b c?", "brand": "<b>Fast & Co</b>", "model": "1 < 2"})
    assert "&lt;b&gt;Fast &amp; Co&lt;/b&gt; 1 &lt; 2" in page.html
    assert page.path == "/..%2Fa%2Fb%20c%3F"
    write_pages([page], tmp_path / "pages")
    assert {path.parent.parent for path in tmp_path.rglob("*.html")} == {tmp_path / "pages"}


@pytest.mark.parametrize(
    "path", [PRODUCTS / "product-page.toml", ISSUES / "issue-label.toml"], ids=lambda path: path.stem
)
def test_the_declarations_are_right(path: Path) -> None:
    found = read(path.read_bytes(), name=path.stem, folder=str(path.parent))
    assert isinstance(found, Declaration), "; ".join(map(str, found))


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2"),
        ("[]", "line 2"),
        ('{"product_id": "a", "brand": "", "model": "m"}', "line 2: product_id, brand and model are needed"),
    ],
)
def test_a_list_of_products_that_is_none_ends_the_demo_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(f'{{"product_id": "a", "brand": "b", "model": "m"}}\n{line}\n')
    with pytest.raises(SystemExit):
        demo_products.products_of(path)
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def scanned(pages: list[Page]) -> tuple[list[dict[str, Any]], Seen]:
    """As a scan without a fault leaves it, in which the first page was read twice, because of a kill."""
    seen = Seen()
    items = []
    for at, page in enumerate(pages):
        seen.pages_asked[page.product_id] = 2 if at == 0 else 1
        seen.last_asked[page.product_id] = 1_000.0
        if page.broken:
            seen.sheets_asked[page.product_id] = 1
        items.append(
            {
                "key": page.product_id,
                "state": "completed",
                "attempt": 1 + (at == 0) + page.broken,
                "healed": page.broken,
                "end_time": "1970-01-01T00:16:41.000Z",
            }
        )
    for shop, most in demo_products.LIMITS.items():
        seen.peak[shop] = most
    return items, seen


def test_a_scan_without_a_fault_is_found_right() -> None:
    pages = [page_of(product) for product in products()]
    assert demo_products.check(*_of(pages)) == []


def _of(pages: list[Page]) -> tuple[list[dict[str, Any]], list[Page], Seen]:
    items, seen = scanned(pages)
    return items, pages, seen


def _one_more_at_once(_items: list[dict[str, Any]], seen: Seen) -> None:
    seen.peak[SHOPS[0]] += 1


def _a_result_is_missing(items: list[dict[str, Any]], _seen: Seen) -> None:
    items[3]["state"] = "failed"


def _a_result_is_there_twice(items: list[dict[str, Any]], _seen: Seen) -> None:
    items.append(items[3])


def _a_page_is_read_after_its_result(items: list[dict[str, Any]], seen: Seen) -> None:
    seen.last_asked[items[3]["key"]] = 1_001.1


def _a_page_is_read_twice_without_a_kill(items: list[dict[str, Any]], seen: Seen) -> None:
    seen.pages_asked[items[3]["key"]] += 1


def _a_page_is_never_read(items: list[dict[str, Any]], seen: Seen) -> None:
    del seen.pages_asked[items[3]["key"]]


def _a_whole_page_is_healed(items: list[dict[str, Any]], seen: Seen) -> None:
    seen.sheets_asked[next(one["key"] for one in items if not one["healed"])] = 1


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (_one_more_at_once, "at once, its limit is"),
        (_a_result_is_missing, "245 results of 245 products"),
        (_a_result_is_there_twice, "247 results of 246 products"),
        (_a_page_is_read_after_its_result, "after their product was recorded"),
        (_a_page_is_read_twice_without_a_kill, "twice without a kill"),
        (_a_page_is_never_read, "1 pages were never asked for"),
        (_a_whole_page_is_healed, "other pages were healed"),
    ],
)
def test_the_demo_would_notice(fault: Callable[[list[dict[str, Any]], Seen], None], told: str) -> None:
    items, pages, seen = _of([page_of(product) for product in products()])
    fault(items, seen)
    assert [told in wrong for wrong in demo_products.check(items, pages, seen)] == [True]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("list.jsonl", b'{"repo": "a/b", "title": "t", "label": "bug"}\n{\n', "can't be read"),
        ("list.jsonl", b"[1, 2]\n", "can't be read"),
        ("list.csv.gz", b"no gzip", "can't be read"),
        ("list.csv", b"repo,title,label\na/b,,bug\n", "issue 1 has no title"),
        ("list.csv", b"repo,title,label\na/b,t,bug\n", "two different labels"),
    ],
)
def test_a_list_of_issues_that_is_none_ends_the_demo_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SystemExit):
        demo_issues.issues_of(path)
    error = capsys.readouterr().err
    assert told in error
    assert len(error.splitlines()) == 1


def shown(monkeypatch: pytest.MonkeyPatch, labeller: ModuleType, issue: dict[str, Any], **parameters: Any) -> Any:
    """What the labeller prints for an issue."""
    item = {"payload": issue, "parameters": {"model": "small", "hand_over": 0, **parameters}}
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(item)))
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    assert labeller.main() == 0
    return json.loads(printed.getvalue())


@pytest.mark.parametrize("model", ["small", "large"])
def test_the_labeller_computes_what_scikit_learn_does(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    # A second of CPU that no other process of the tests has to spend.
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    labeller = program(ISSUES / "labeller.py", monkeypatch)
    train = program(ISSUES / "train.py", monkeypatch)
    issues = demo_issues.issues_of(ISSUES / "issues.jsonl")
    learned, asked = issues[::2], issues[1::2]
    weights = train.learned(learned, model)
    count = TfidfVectorizer(
        analyzer=lambda issue: labeller.features(issue, model),
        sublinear_tf=True,
        min_df=2,
        max_features=train.MOST_TERMS[model],
    )
    fitted = LogisticRegression(C=train.STRENGTH[model], max_iter=1000)
    fitted.fit(count.fit_transform(learned), [issue["label"] for issue in learned])
    for issue, wanted in zip(asked, fitted.predict_proba(count.transform(asked)), strict=True):
        found = labeller.probabilities(labeller.features(issue, model), weights)
        assert list(found) == list(fitted.classes_)
        assert list(found.values()) == pytest.approx(list(wanted), abs=0.001)


def test_an_issue_that_is_unsure_is_handed_over_without_a_confidence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    labeller = program(ISSUES / "labeller.py", monkeypatch)
    monkeypatch.setattr(labeller, "__file__", str(tmp_path / "labeller.py"))
    weights = {"labels": ["bug", "question"], "bias": [0.0, 0.0], "terms": {"title crash": [1.0, 1.0, -1.0]}}
    (tmp_path / "weights-small.json").write_text(json.dumps(weights))
    sure = shown(monkeypatch, labeller, {"title": "Crash"}, hand_over=0.7)
    assert sure == {"label": "bug", "confidence": 0.881, "model": "small"}
    unsure = shown(monkeypatch, labeller, {"title": "Hello"}, hand_over=0.7)
    assert unsure == {"label": "triage", "guess": "bug", "guess_confidence": 0.5, "model": "small"}
    assert shown(monkeypatch, labeller, {"title": "Hello"})["confidence"] == 0.5


def test_the_issues_can_be_learned_from_and_asked_about() -> None:
    issues = demo_issues.issues_of(ISSUES / "issues.jsonl")
    assert len({demo_issues.key_of(issue) for issue in issues}) == len(issues) >= 80
    known = demo_issues.split(issues)
    for chosen in (True, False):
        labels = Counter(issue["label"] for issue in issues if (demo_issues.key_of(issue) in known) is chosen)
        assert set(labels) == {"bug", "feature", "question"}
        assert min(labels.values()) >= 10
    assert {issue["org"] for issue in issues} == {issue["repo"].partition("/")[0] for issue in issues}


def test_hidden_labels_are_not_in_the_catalog_and_half_is_hidden_where_there_are_no_states(tmp_path: Path) -> None:
    path = tmp_path / "issues.csv"
    rows = [f'a/b,{"bug" if number % 2 else "feature"},"Title, {number}\nof two lines"' for number in range(200)]
    path.write_text("\n".join(["repo,label,title", *rows]) + "\n")
    issues = demo_issues.issues_of(path)
    assert [issue["number"] for issue in issues] == list(range(1, 201))
    assert issues[7]["title"] == "Title, 7\nof two lines"
    known = demo_issues.split(issues)
    assert 60 < len(known) < 140
    written = [json.loads(line) for line in demo_issues.catalog_of(issues, known).splitlines()]
    assert {demo_issues.key_of(row) for row in written if row["label"]} == known
    assert all((row["label"] is None) == (row["state"] == "open") for row in written)


def test_a_folder_in_use_is_not_thrown_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "demo" / "data").mkdir(parents=True)
    lock = tmp_path / "demo" / "data" / "lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SystemExit):
            demo_penstock.fresh_folder(tmp_path / "demo")
        assert lock.exists()
    assert "in use" in capsys.readouterr().err
    demo_penstock.fresh_folder(tmp_path / "demo")
    assert list((tmp_path / "demo").iterdir()) == []


@pytest.mark.parametrize("error", ["a file in its place", "no folder above", "a full disk", "another file"])
def test_a_folder_that_cant_be_written_ends_a_demo_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    out = tmp_path / "demo-out"
    monkeypatch.setattr(demo_penstock, "OUT", out)
    monkeypatch.setattr(demo_penstock, "end_on_sigterm", lambda: None)

    def main() -> int:
        if error == "a full disk":
            raise OSError(errno.ENOSPC, "No space left on device")
        if error == "another file":
            (tmp_path / "none").read_bytes()
        demo_penstock.fresh_folder(out / "issues")
        return 0

    if error == "a file in its place":
        out.mkdir()
        (out / "issues").write_text("x")
    elif error == "no folder above":
        out.write_text("x")
    if error == "another file":
        with pytest.raises(FileNotFoundError):  # a defect of ours is told as one
            demo_penstock.play(main)
        return
    with pytest.raises(SystemExit) as ended:
        demo_penstock.play(main)
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("demo: ")


def test_ctrl_c_ends_set_up_in_one_line(tmp_path: Path) -> None:
    """Sent as soon as it waits for another program, of which there is none else in a set-up that is done."""
    project = tmp_path / "project"
    (project / "tools").mkdir(parents=True)
    setup = project / "tools" / "setup.py"
    text = (ROOT / "tools" / "setup.py").read_text().replace("def main(", "def unused(")
    ours = "def main(kind: str) -> None:\n    run('-c', 'import os, signal; os.kill(os.getppid(), signal.SIGINT)')\n"
    setup.write_text(text.replace('if __name__ == "__main__":', f'{ours}\n\nif __name__ == "__main__":'))
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").symlink_to(sys.executable)
    done = subprocess.run([sys.executable, str(setup)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "setup: stopped\n")
