"""`penstock sources`, `plans` and `process` as a user types them, against a running Penstock."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import Protocol

import pytest

from penstock.cli import app
from tests.integration.cli.conftest import Answer, carried_out
from tests.servers.stack import Stack

BRANDS = ("Acer", "Razer", "Zowie")


@pytest.fixture(scope="module")
def mice(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A catalog of 210 rows: more than a plan starts without being asked."""
    path = tmp_path_factory.mktemp("planning") / "mice.jsonl"
    path.write_text(
        "".join(
            json.dumps({"id": f"m{n}", "brand": BRANDS[n % 3], "model": f"Model {n}", "price": n}) + "\n"
            for n in range(1, 211)
        )
    )
    stack.client.sources.catalog([path], name="cli-mice")
    return "cli-mice"


@pytest.fixture(scope="module")
def issues(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("planning") / "issues.csv"
    path.write_text(
        "repo,number,state,title\n"
        "acme/web,1,open,crash at start\nacme/web,2,closed,typo\nacme/api,3,open,slow\nother/x,4,OPEN,crash again\n"
    )
    stack.client.sources.catalog([path], name="cli-issues")
    return "cli-issues"


class Typed(Protocol):
    def __call__(self, *arguments: str | Path, words: str = "") -> Answer: ...


@pytest.fixture
def penstock(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    """The command line in this process, with somebody who types `words`: an interpreter for each of the many commands
    would take longer than all that they do."""
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PENSTOCK_DATA", str(stack.data))

    def run(*arguments: str | Path, words: str = "") -> Answer:
        monkeypatch.setattr("sys.argv", ["penstock", *map(str, arguments)])
        monkeypatch.setattr("sys.stdin", io.StringIO(words))
        capsys.readouterr()
        code = app.run()
        printed = capsys.readouterr()
        return Answer(code, printed.out, printed.err)

    return run


def test_the_last_line_of_add_says_name_version_and_rows(penstock: Typed, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for n in range(3):
        (folder / f"{n}.json").write_text(json.dumps({"id": n, "brand": "Acer"}))
    added = penstock("sources", "add", "cli-folder", folder)
    assert (added.code, added.out.splitlines()[-1]) == (0, "cli-folder version 1: 3 rows")
    assert "100%" in added.err
    (folder / "3.json").write_text(json.dumps({"id": 3, "brand": "Acer"}))
    again = penstock("sources", "add", "cli-folder", folder)
    assert again.out.splitlines()[-2:] == [
        "since the version before: 1 added, 0 changed, 0 removed",
        "cli-folder version 2: 4 rows",
    ]
    removed = penstock("sources", "remove", "cli-folder", "--yes", "--json")
    assert removed.json() == {"name": "cli-folder", "version_count": 2, "draft_count": 0}
    assert penstock("sources", "show", "cli-folder").code == 2


def test_bad_rows_refuse_all_or_are_left_out_by_name(penstock: Typed, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"id": 1}\n{"id": \n{"id": 3}\n')
    refused = penstock("sources", "add", "cli-bad", path)
    assert refused.code == 2
    assert "line 2" in refused.err
    kept = penstock("sources", "add", "cli-bad", path, "--skip-bad")
    assert kept.code == 0
    assert "1 row" in kept.out
    assert kept.out.splitlines()[-1] == "cli-bad version 1: 2 rows"
    path.write_text("id\n1\n1\n")
    assert "1" in penstock("sources", "add", "cli-twice", path, "--format", "csv").err


def test_a_path_on_the_server_is_read_only_where_settings_allow(penstock: Typed) -> None:
    refused = penstock("sources", "add", "cli-secret", "/etc/passwd", "--server-path")
    assert refused.code == 2
    assert "planner.source_folders" in refused.err


def test_what_a_source_holds_is_shown(penstock: Typed, mice: str) -> None:
    listed = penstock("sources", "list", "--search", "cli-m").out.splitlines()
    assert listed[1].split()[:4] == ["cli-mice", "catalog", "1", "210"]
    shown = penstock("sources", "show", mice)
    assert "Source cli-mice version 1: 210 rows" in shown.out
    price = next(line.split() for line in shown.out.splitlines() if line.startswith("price"))
    assert price[1:6] == ["whole", "0", "210", "1", "210"]
    view = penstock("sources", "show", mice, "--json").json()
    assert [one["version"] for one in view["versions"]] == [1]


def test_what_json_tells_of_a_selection_is_typed_again(penstock: Typed, mice: str, tmp_path: Path) -> None:
    made = ("plans", "create", mice, "--processor", "noop", "--draft", "--json")
    one = penstock(*made, "--filter", "price <= 33", "--limit", "7", "--again").json()
    file = tmp_path / "selection.json"
    file.write_text(json.dumps(one["selection"]))
    for typed in (file.read_text(), f"@{file}"):
        assert penstock(*made, "--selection", typed).json()["plan_id"] == one["plan_id"]
    for options, words in (
        (("--limit", "7"), "--selection says all of it"),
        (("--sql", "SELECT 1"), "one of --sql and --selection"),
    ):
        refused = penstock(*made, "--selection", f"@{file}", *options)
        assert (refused.code, words in refused.err) == (2, True), refused.err


def test_rows_are_asked_for_and_a_wrong_filter_shows_its_place(penstock: Typed, mice: str) -> None:
    page = penstock("sources", "rows", mice, "--filter", "price > 200", "--order-by", "price desc", "--json").json()
    assert (page["total"], page["rows"][0]["key"]) == (10, "m210")
    text = penstock("sources", "rows", mice, "--search", "model 21", "--groups", "--limit", "1").out
    assert "1-1 of 2 rows" in text
    assert text.splitlines()[0].split() == ["ROW", "KEY", "GROUP", "MODEL", "PRICE"]
    wrong = penstock("sources", "rows", mice, "--filter", "price > 3 AND brnd = x")
    assert wrong.code == 2
    line, below = wrong.err.splitlines()[-2:]
    assert line[below.index("^") :].startswith("brnd")


def test_a_plan_from_selection_to_run(penstock: Typed, mice: str, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("m3\nm1\n")
    by_keys = penstock(
        "plans", "create", mice, "--processor", "noop", "--ids", keys, "--as-selected", "--again", "--draft", "--json"
    ).json()
    order = penstock("plans", "order", by_keys["plan_id"], "--json").json()
    assert [row["key"] for row in order["rows"]] == ["m3", "m1"]

    arguments = ("--processor", "noop", "--filter", "price <= 30", "--pin", "Zowie", "--group-order", "Razer")
    made = penstock("plans", "create", mice, *arguments, "--sort", "price desc", "--name", "cli first")
    assert made.code == 0, made.err
    assert made.out.splitlines()[-1].endswith(": 30 items in 3 groups")
    ordered = penstock("plans", "order", "cli first", "--limit", "3").out.splitlines()
    assert [line.split()[1] for line in ordered[1:4]] == ["m29", "m26", "m23"]
    assert "group pinned 1" in ordered[1]

    other = penstock("plans", "create", mice, *arguments[:4], "--exclude-filter", "price = 30", "--name", "cli other")
    assert "excluded by filter" in other.out
    told = penstock("plans", "diff", "cli first", "cli other", "--json").json()
    assert (told["removed"], told["added_count"]) == (["m30"], 0)
    renamed = penstock("plans", "rename", "cli other", "cli second")
    assert renamed.code == 0
    assert penstock("plans", "show", "cli other").code == 2
    listed = penstock("plans", "list", "--search", "cli ").out
    assert "cli first" in listed
    assert "cli second" in listed

    started = penstock("plans", "start", "cli first", "--wait")
    assert started.code == 0, started.err
    assert "cli first: completed" in started.out
    done = penstock(
        "plans", "create", mice, "--processor", "noop", "--filter", "price <= 31", "--draft", "--json"
    ).json()
    assert done["item_count"] == 1
    assert [(one["code"], one["count"]) for one in done["left_out"]] == [("done_already", 30)]


def test_a_large_plan_asks_before_it_starts(penstock: Typed, stack: Stack, mice: str) -> None:
    plan = penstock("plans", "create", mice, "--processor", "noop", "--again", "--draft", "--json").json()
    assert plan["needs_confirm"]
    nobody = carried_out("plans", "start", plan["plan_id"], data=stack.data)
    assert (nobody.code, nobody.out) == (2, "")
    assert "210 items are more than 200" in nobody.err
    assert "--yes" in nobody.err
    declined = penstock("plans", "start", plan["plan_id"], words="no\n")
    assert (declined.code, declined.out.strip()) == (1, "nothing was started")
    agreed = penstock("plans", "start", plan["plan_id"], "--json", words="y\n")
    assert agreed.code == 0, agreed.err
    assert json.loads(agreed.out)["counts"]["total"] == 210


def test_the_order_of_a_task_file_is_shown_before_it_runs(penstock: Typed, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.md"
    tasks.write_text("## Build\n- [ ] T002 second [depends: T001]\n- [ ] T001 first\n- [ ] T003 third\n")
    assert penstock("sources", "add", "cli-tasks", tasks, "--each-task").code == 0
    assert penstock("plans", "create", "cli-tasks", "--processor", "noop", "--name", "cli-todo").code == 0
    lines = penstock("plans", "order", "cli-todo", "--skip", "1", "--limit", "1").out.splitlines()
    assert [line.split() for line in lines] == [
        ["PLACE", "KEY", "GROUP"],
        ["1", "T002", "Build"],
        [],
        ["2-2", "of", "3", "items"],
    ]
    told = json.loads(penstock("plans", "order", "cli-todo", "--json").out)
    assert ([item["key"] for item in told["items"]], told["total"]) == (["T001", "T002", "T003"], 3)
    refused = penstock("plans", "order", "cli-todo", "--filter", "key = T001")
    assert refused.code == 2
    assert "takes --skip and --limit" in refused.err


def test_what_selects_and_is_empty_is_refused_and_never_all(penstock: Typed, mice: str, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.sql"
    nothing.touch()
    for option in ("--filter", "--ids", "--missing", "--failed-of", "--changed-since", "--sql", "--selection", "--org"):
        refused = penstock("plans", "create", mice, "--processor", "noop", option, "", "--draft")
        assert (refused.code, f"{option} is empty" in refused.err, refused.out) == (2, True, ""), refused.err
    for command in (
        ("plans", "create", mice, "--processor", "noop", "--sql", f"@{nothing}", "--draft"),
        ("process", "custom", "noop", f"@{nothing}", "--source", mice, "--yes"),
        ("process", "custom", "noop", "", "--source", mice, "--yes"),
        ("process", "missing", "", "--source", mice, "--yes"),
        ("process", "missing", "noop", "--source", mice, "--repo", "", "--yes"),
        ("plans", "create", mice, "--processor", "noop", "--selection", '{"keys": null}', "--draft"),
        ("plans", "create", mice, "--processor", "noop", "--ids", tmp_path / "nobody", "--draft"),
    ):
        refused = penstock(*command)
        assert (refused.code, refused.out) == (2, ""), (command, refused.err)


def test_two_ways_to_select_are_refused(penstock: Typed, mice: str) -> None:
    refused = penstock("plans", "create", mice, "--processor", "noop", "--all", "--missing", "noop")
    assert refused.code == 2
    assert "--all and --missing" in refused.err


def test_what_is_missing_is_processed_once(penstock: Typed, issues: str, mice: str) -> None:
    several = penstock("process", "missing", "noop", "--yes")
    assert several.code == 2
    assert "cli-issues" in several.err

    dry = penstock("process", "missing", "noop", "--source", issues, "--dry-run")
    assert (dry.code, dry.out.splitlines()[0]) == (0, "3 items for noop 1")
    assert "state open" in dry.out
    ran = penstock("process", "missing", "noop", "--source", issues, "--org", "acme", "--yes")
    assert ran.code == 0, ran.err
    assert "completed" in ran.out
    again = penstock("process", "missing", "noop", "--source", issues, "--org", "acme", "--yes")
    assert again.code == 0
    assert again.out.startswith("nothing to do")
    closed = penstock("process-query", "missing", "noop", "--source", issues, "--state", "", "--dry-run", "--json")
    assert closed.json()["plan"]["item_count"] == 2

    number = penstock("process", "history", "--source", issues, "--json").json()[0]["run"]["number"]
    details = penstock("process", "details", str(number)).out
    assert "missing noop, org acme, state open" in details
    ended = penstock("process", "cancel", str(number))
    assert ended.code == 1
    assert "completed" in ended.err


def test_rows_that_a_query_selects_are_processed(penstock: Typed, issues: str, tmp_path: Path) -> None:
    query = tmp_path / "crash.sql"
    query.write_text("SELECT key FROM items WHERE title LIKE '%crash%'")
    declined = penstock(
        "process",
        "custom",
        "noop",
        f"@{query}",
        "--source",
        issues,
        "--again",
        "--param",
        "sleep_seconds=0",
        words="\n",
    )
    assert (declined.code, declined.out.splitlines()[-1]) == (1, "nothing was started")
    started = penstock(
        "process", "custom", "noop", f"@{query}", "--source", issues, "--again", "--yes", "--no-wait", "--json"
    )
    plan, run = started.lines()
    assert plan["plan"]["item_count"] == run["run"]["counts"]["total"] == 2
    wrong = penstock("process", "custom", "noop", "SELECT nokey FROM items", "--source", issues, "--yes")
    assert wrong.code == 2
    assert "nokey" in wrong.err


def test_results_without_a_confidence_are_below_no_threshold(penstock: Typed, issues: str) -> None:
    told = penstock("process", "reprocess", "noop", "--source", issues, "--threshold", "0.7", "--yes")
    assert told.code == 0
    assert told.out.startswith("nothing to do")


def test_rows_of_a_source_and_of_a_plan_take_the_same_options_and_show_results(penstock: Typed, mice: str) -> None:
    which = ("--filter", "price < 4", "--again")  # other tests of this Penstock may have done them
    made = penstock("plans", "create", mice, "--processor", "noop", *which, "--name", "beside")
    assert made.code == 0, made.err
    assert penstock("plans", "start", "beside", "--yes", "--wait").code == 0
    asked = ("--result-of", "noop", "--order-by", "price desc", "--search", "model", "--groups", "--columns", "price")
    where = ("--filter", "result.state = completed AND price < 4")
    while (found := penstock("sources", "rows", mice, *asked, *where)).out.count("completed") < 4:
        assert found.code == 0  # the copy of results is a second old at most
    lines = found.out.splitlines()
    assert lines[0].split()[:6] == ["ROW", "KEY", "GROUP", "PRICE", "STATE", "CONFIDENCE"]
    assert [line.split()[1] for line in lines if " completed " in line][:3] == ["m3", "m2", "m1"]
    assert "1-3 of 3 rows" in lines
    assert "results of noop: 3 completed" in lines
    order = penstock("plans", "order", "beside", *asked, "--filter", "result.state = completed").out.splitlines()
    assert order[0].split()[0] == "PLACE"
    assert order[0].split()[-1] == "WHY"
    assert [line.split()[1] for line in order if " completed " in line][:3] == ["m3", "m2", "m1"]
    as_json = json.loads(penstock("plans", "order", "beside", "--result-of", "noop", "--json").out)
    assert {row["result"]["state"] for row in as_json["rows"]} == {"completed"}
    wrong = penstock("sources", "rows", mice, "--result-of", "nop")
    assert (wrong.code, "noop" in wrong.err) == (2, True)


def test_what_was_measured_is_told_before_the_start_and_compared_after_it(penstock: Typed, mice: str) -> None:
    made = ("plans", "create", mice, "--processor", "noop", "--again", "--max-tries", "7", "--name", "estimated")
    for _ in range(2):
        assert penstock(*made).code == 0
        assert penstock("plans", "start", "estimated", "--yes", "--wait").code == 0
    told = penstock(*made)
    lines = told.out.splitlines()
    (total,) = [line for line in lines if line.startswith("estimate, ")]
    assert "; cost: $0" in total
    (head,) = [number for number, line in enumerate(lines) if line.startswith("STAGE") and "RUNTIME" in line]
    assert "0 noop" in lines[head + 1]
    assert "of noop 1 with sleep_seconds=0.0" in lines[head + 1]
    groups = [line.split()[0] for line in lines[head + 4 : head + 7]]
    assert groups == list(BRANDS)
    assert [line.split()[0] for line in lines if line.startswith(("fast ", "standard ", "thorough "))]
    assert penstock("plans", "show", "estimated").out.splitlines()[-1] == lines[-3]
    as_json = penstock("plans", "show", "estimated", "--json").json()
    assert as_json["estimate"]["runtime_seconds"]["p10"] > 0
    small = penstock("process", "custom", "noop", "SELECT key FROM items", "--source", mice, "--again", "--dry-run")
    assert "estimate, for four of five runs: runtime: " in small.out
    good = penstock("plans", "estimates", "--plan", "estimated")
    assert " ".join(good.out.splitlines()[0].split()) == "RUN PLAN TOLD TOOK OFF TOLD TO COST COST OFF"
    assert "estimated" in good.out.splitlines()[1]
    assert re.search(r"runtime: \d of the last \d estimates? held \(8 of 10 should\)", good.out)
    assert penstock("plans", "estimates", "--json").json()["runtime"]["count"] >= 1


def test_a_plan_is_exported_imported_and_copied(penstock: Typed, mice: str, tmp_path: Path) -> None:
    which = ("--filter", "price > 200", "--again")
    made = penstock("plans", "create", mice, "--processor", "noop", *which, "--name", "few", "--json")
    plan = json.loads(made.out)
    file = tmp_path / "few.plan.gz"
    exported = penstock("plans", "export", "few", file)
    assert exported.code == 0
    assert exported.out.startswith(f"{plan['plan_id']} is in {file}: ")
    imported = penstock("plans", "import", file)
    assert imported.code == 0
    assert imported.out.splitlines()[-1].startswith(plan["plan_id"])
    file.write_bytes(file.read_bytes()[:-9])
    broken = penstock("plans", "import", file)
    assert broken.code == 2
    assert "breaks off" in broken.err
    assert penstock("plans", "import", tmp_path / "none").code != 0
    copied = penstock("plans", "copy", "few", "--concurrency", "2", "--name", "few, gently")
    assert copied.code == 0
    told = penstock("plans", "diff", "few", "few, gently").out
    assert "stage 0: concurrency 2, was 64" in told
    same = penstock("plans", "copy", "few").out.splitlines()[-1]
    assert same.endswith("(the same: nothing is set otherwise)")


def test_a_plan_is_removed_after_a_question_and_its_source_after_it(penstock: Typed, tmp_path: Path) -> None:
    path = tmp_path / "gone.csv"
    path.write_text("id,brand\n1,Acer\n2,Razer\n")
    assert penstock("sources", "add", "cli-gone", path).code == 0
    assert penstock("plans", "create", "cli-gone", "--processor", "noop", "--name", "cli gone").code == 0
    needed = penstock("sources", "remove", "cli-gone", words="y\n")
    assert (needed.code, "[y/N]" in needed.err) == (1, False), "nobody is asked about what can't be"
    assert "'cli gone'" in needed.err
    assert "penstock plans remove plan-" in needed.err
    kept = penstock("plans", "remove", "cli gone", words="n\n")
    assert (kept.code, "Remove plan cli gone of 2 items?" in kept.err) == (1, True)
    assert "nothing was removed" in kept.out
    nobody = penstock("plans", "remove", "cli gone")
    assert (nobody.code, "--yes" in nobody.err) == (2, True)
    gone = penstock("plans", "remove", "cli gone", words="y\n")
    assert gone.code == 0, gone.err
    assert "plan cli gone is removed" in gone.out
    assert penstock("plans", "show", "cli gone").code == 2
    draft = penstock("plans", "create", "cli-gone", "--processor", "noop", "--draft", "--json").json()
    kept = penstock("sources", "remove", "cli-gone", words="n\n")
    assert (kept.code, "Remove source cli-gone with 1 version and 1 preview?" in kept.err) == (1, True)
    removed = penstock("sources", "remove", "cli-gone", "--yes")
    assert (removed.code, "with 1 version and 1 preview" in removed.out) == (0, True)
    assert penstock("plans", "remove", draft["plan_id"], "--yes").code == 2


def test_a_plan_without_a_name_is_removed_by_its_id(penstock: Typed, tmp_path: Path) -> None:
    path = tmp_path / "nameless.csv"
    path.write_text("id,brand\n1,Acer\n2,Razer\n")
    assert penstock("sources", "add", "cli-nameless", path).code == 0
    plan = penstock("plans", "create", "cli-nameless", "--processor", "noop", "--json").json()["plan_id"]
    missing = penstock("plans", "remove", "", "--yes")
    assert (missing.code, "plan_id is missing" in missing.err) == (2, True)
    kept = penstock("plans", "remove", plan, words="n\n")
    assert (kept.code, f"Remove {plan} of 2 items?" in kept.err) == (1, True)
    gone = penstock("plans", "remove", plan, "--yes")
    assert (gone.code, gone.out.strip()) == (0, f"{plan} is removed")


def test_a_plan_with_items_left_to_run_is_removed_by_force(penstock: Typed, tmp_path: Path) -> None:
    path = tmp_path / "left.csv"
    path.write_text("id,fail\n1,true\n2,false\n")
    assert penstock("sources", "add", "cli-left", path).code == 0
    made = penstock("plans", "create", "cli-left", "--processor", "noop", "--name", "cli left", "--json").json()
    run = penstock("plans", "start", "cli left", "--json").json()
    penstock("runs", "stop", str(run["number"]), "--force")
    penstock("runs", "watch", str(run["number"]))
    forced = penstock("plans", "remove", "cli left", "--force", "--yes", "--json")
    assert forced.json() == {"plan_id": made["plan_id"], "name": "cli left", "draft": False, "run_count": 1}
    shown = penstock("runs", "show", str(run["number"]))
    assert "plan removed" in shown.out
    told = penstock("process", "details", str(run["number"]))
    assert (told.code, "was removed" in told.err) == (2, True)
    assert penstock("process", "history").code == 0
