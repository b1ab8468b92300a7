"""What is typed of sources, selections and orders: how it is read, what is guessed, what does not fit together."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
import typer

from penstock.cli import plans, sources
from penstock.cli.options import confirmed
from penstock.cli.plan_making import _no_source
from penstock.cli.plan_text import warning_text
from penstock.cli.rows import print_page
from penstock.cli.rule_text import rule_lines
from penstock.cli.selecting import columns_of, keys_of, ordering_text, selection_text, sql_of, stage_of
from penstock.cli.source_text import size_text
from penstock.cli.sources import DOCUMENT_SUFFIXES, _check, _guessed
from penstock.client import Ordering, Selection
from penstock.client.plan_views import plan_view
from penstock.client.rules import Rules
from penstock.client.source_views import row_page_view, source_view
from penstock.client.views import rules_view
from penstock.runtime.errors import InvalidInput, NotFound
from penstock.v1 import planner_pb2, sources_pb2
from worker.processors.document import KINDS

NOTHING: dict[str, Any] = dict.fromkeys(
    ("--key", "--group", "--sort", "--format", "--skip-bad", "--table", "--query", "--each-task", "--batch-size"), ""
)


def test_columns_stand_between_commas_and_in_quotes_where_they_have_one() -> None:
    assert columns_of("price desc, name") == ("price desc", "name")
    assert columns_of('a,"b, c"') == ("a", "b, c")
    assert columns_of("") == columns_of(" , ") == ()


def test_keys_are_lines_of_a_file_or_of_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "keys"
    file.write_text("\ufeffone\n\ntwo words \n")
    assert keys_of(str(file)) == ["one", "two words "]
    monkeypatch.setattr("sys.stdin", io.StringIO("three\n"))
    assert keys_of("-") == ["three"]
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="no UTF-8"):
        keys_of(str(file))
    file.write_text("\n\n")
    with pytest.raises(InvalidInput, match="no keys"):
        keys_of(str(file))


def test_sql_is_typed_or_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "q.sql").write_text("SELECT key FROM items")
    assert sql_of(f"@{tmp_path / 'q.sql'}") == sql_of("SELECT key FROM items")


def test_a_parameter_by_itself_goes_before_the_object_of_all() -> None:
    stage = stage_of(
        "p",
        param=["top=5"],
        parameters='{"top": 1, "deep": true}',
        concurrency=0,
        max_tries=0,
        max_run_seconds=0,
    )
    assert stage.parameters == {"top": 5, "deep": True}
    with pytest.raises(InvalidInput, match="must be a JSON object"):
        stage_of("p", param=None, parameters="[]", concurrency=0, max_tries=0, max_run_seconds=0)


@pytest.mark.parametrize(
    ("paths", "given", "kind"),
    [
        (["a.jsonl"], {}, "catalog"),
        (["folder"], {}, "catalog"),
        (["a.csv.gz", "b.csv"], {}, "catalog"),
        (["shop.sqlite"], {}, "table"),
        (["shop.DuckDB"], {}, "table"),
        (["tasks.md"], {}, "tasks"),
        (["tasks.txt"], {"--each-task": True}, "tasks"),
        (["x.bin"], {"--table": "orders"}, "table"),
    ],
)
def test_the_kind_is_guessed_from_the_paths(paths: list[str], given: dict[str, Any], kind: str) -> None:
    assert _guessed(paths, {**NOTHING, **given}, database="") == kind


def test_documents_are_what_their_processor_reads() -> None:
    assert set(KINDS) == DOCUMENT_SUFFIXES


def test_a_folder_of_nothing_but_texts_is_one_of_documents(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    assert _guessed([str(tmp_path)], NOTHING, database="") == "catalog"
    for name in ("one.txt", "more/two.PDF"):
        (tmp_path / name).touch()
    assert _guessed([str(tmp_path)], NOTHING, database="") == "documents"
    (tmp_path / "more" / "rows.json").touch()
    assert _guessed([str(tmp_path)], NOTHING, database="") == "catalog"
    assert _guessed([], NOTHING, database="shop") == "table"


def test_a_database_is_known_by_its_content_and_its_tables_are_told_before_it_is_sent(tmp_path: Path) -> None:
    lite, duck = str(tmp_path / "shop.data"), str(tmp_path / "a b?.bin")
    with closing(sqlite3.connect(lite)) as connection:
        connection.executescript("CREATE TABLE orders (id); CREATE TABLE clients (id); CREATE VIEW open AS SELECT 1")
    with duckdb.connect(duck) as database:
        database.execute("CREATE TABLE orders (id INT); CREATE SCHEMA old; CREATE TABLE old.orders (id INT)")
    assert _guessed([lite], NOTHING, database="") == _guessed([duck], NOTHING, database="") == "table"
    for path, tables in ((lite, "clients, open, orders"), (duck, "old.orders, orders")):
        with pytest.raises(InvalidInput) as told:
            _check("table", [path], NOTHING, server_path=False, database="")
        assert told.value.message.endswith(f"--query 'SELECT …'; it has the tables {tables}")
    # A path on the server says nothing of what stands here under that name.
    with pytest.raises(InvalidInput) as told:
        _check("table", [lite], NOTHING, server_path=True, database="")
    assert "it has" not in told.value.message


def test_a_file_in_the_place_of_a_source_is_told_how_to_register_it(tmp_path: Path) -> None:
    file, lite = tmp_path / "mice.jsonl", tmp_path / "shop.db"
    file.write_text("{}")
    with closing(sqlite3.connect(lite)) as connection:
        connection.execute("CREATE TABLE orders (id)")

    def told(path: str) -> str:
        return _no_source(NotFound("no source", code="source_not_found"), path).message

    assert told(str(file)).endswith(f"register it first, by penstock sources add NAME {file}")
    assert told(str(lite)).endswith(f"penstock sources add NAME {lite} --table T (it has the table orders)")
    assert told("mice") == "no source"


def test_of_a_database_that_cannot_be_read_here_nothing_is_said(tmp_path: Path) -> None:
    broken = tmp_path / "shop.sqlite"
    broken.write_bytes(b"SQLite format 3\0" + bytes(100))
    for path in (broken, tmp_path / "none.duckdb"):
        with pytest.raises(InvalidInput) as told:
            _check("table", [str(path)], NOTHING, server_path=False, database="")
        assert told.value.message.endswith("--query 'SELECT …'")


def test_all_that_does_not_fit_together_is_told_at_once() -> None:
    given = {**NOTHING, "--each-task": True, "--table": "t", "--query": "SELECT 1"}
    with pytest.raises(InvalidInput) as told:
        _check("table", ["a.db", "b.db"], given, server_path=True, database="")
    for part in ("--each-task is not for kind table", "one of --table and --query", "begins with /", "takes one PATH"):
        assert part in told.value.message
    _check("table", ["a.db"], {**NOTHING, "--table": "t"}, server_path=False, database="")
    _check("table", [], {**NOTHING, "--query": "SELECT 1"}, server_path=False, database="shop")


def test_a_selection_and_an_order_are_told_in_words() -> None:
    plan = planner_pb2.Plan(
        selection=Selection(reprocess="judge", threshold=0.7, state="open", limit=5, exclude_keys=["a"]).message(),
        ordering=Ordering(pinned=["Razer"], groups=["Acer"], sort=["price desc"]).message(),
    )
    view = plan_view(plan)
    assert selection_text(view["selection"]) == "judge below 0.7, state open, without 1 key, the first 5"
    assert ordering_text(view["ordering"]) == "first Razer; then Acer; by price desc"
    assert selection_text(None) == "all, as the source has it"
    for selection, words in (
        (Selection(), "all"),
        (Selection(keys=["a", "b"]), "2 keys"),
        (Selection(missing="judge", again=True), "missing judge, also what was done already"),
        (Selection(failed_of_run="run-1"), "failed of run-1"),
        (Selection(changed_since_plan="plan-1"), "changed since plan-1"),
        (Selection(sql="SELECT 1"), "SQL: SELECT 1"),
        (Selection(filter="a = 1"), "filter: a = 1"),
    ):
        assert selection_text(plan_view(planner_pb2.Plan(selection=selection.message()))["selection"]) == words
    usual = plan_view(planner_pb2.Plan(ordering=Ordering(pinned=["Razer"]).message()))["ordering"]
    assert ordering_text(usual, own=["brand", "model"]) == "first Razer; by the source's own order (brand, model)"


def test_the_rules_of_a_stage_are_told_in_words() -> None:
    rules = Rules.model_validate(
        {
            "retry": [{"kinds": ["provider"], "max_tries": 3, "first_seconds": 2.0}, {"max_tries": 1}],
            "heal": {"attempts": 2, "processor": "mend", "parameters": {"gently": True}, "budget_micros": 500_000},
            "confirm": {"processor": "check"},
            "gate": {"name": "ship", "timeout_seconds": 60.0, "default_answer": "approve"},
            "run_when": "all",
            "tolerance": {"failures": 3},
            "budget_micros": 1_250_000,
        }
    )
    assert rule_lines(rules_view(rules.message())) == [
        "retry: provider, at most 3 tries, first after 2 s",
        "retry: every failure, never",
        'heal: at most 2 attempts, by mend, with {"gently": true}, for at most $0.50 in all',
        "confirm: by check",
        "gate: ship, waits for an answer, after 60 s approve",
        "run_when: all",
        'tolerance: {"failures": 3}',
        "budget: $1.25",
    ]
    assert rule_lines({}) == []


def test_who_has_said_yes_is_not_told_to_confirm() -> None:
    warning = "201 items are more than 200: confirm to start it"
    assert warning_text(warning, confirmed=False) == warning
    assert warning_text(warning, confirmed=True) == "201 items are more than 200"


def test_columns_of_results_are_shown_where_they_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    result = sources_pb2.RowResult(state="completed", confidence=0.5, run_number=8, value=b'{"len": 7}')
    rows = [
        sources_pb2.TableRow(key="a", values=b'{"brand": "Razer"}', result=result),
        sources_pb2.TableRow(key="b", values=b'{"brand": "Acer"}'),
    ]
    known = [
        sources_pb2.SourceColumn(name=f"result.{name}", kind=sources_pb2.COLUMN_KIND_TEXT)
        for name in ("run", "value.len")
    ]
    page = row_page_view(sources_pb2.RowPage(rows=rows, total=2, results=sources_pb2.RowResults(columns=known)))
    source = source_view(
        planner_pb2.Source(
            columns=[sources_pb2.SourceColumn(name="brand", kind=sources_pb2.COLUMN_KIND_TEXT)],
            kind=planner_pb2.SOURCE_KIND_CATALOG,
        )
    )
    print_page(page, source, columns="brand,result.run,result.value.len", skip=0, groups=False, plan=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()[:3]]
    assert lines == [
        ["ROW", "KEY", "GROUP", "BRAND", "RESULT.RUN", "RESULT.VALUE.LEN"],
        ["0", "a", "—", "Razer", "8", "7"],
        ["0", "b", "—", "Acer", "—", "—"],
    ]
    with pytest.raises(InvalidInput, match=r"result\.value\.width"):
        print_page(page, source, columns="result.value.width", skip=0, groups=False, plan=False)


def test_who_is_asked_says_yes_or_nothing_happens(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for typed, answer in (("y\n", True), ("YES\n", True), ("\n", False), ("n\n", False)):
        monkeypatch.setattr("sys.stdin", io.StringIO(typed))
        assert confirmed("Start 3 items?", yes=False) is answer
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(InvalidInput, match="--yes") as told:
        confirmed("Start 3 items?", yes=False)
    assert told.value.code == "confirm_required"
    assert confirmed("Start 3 items?", yes=True)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Start 3 items? [y/N]" in printed.err


def test_bytes_are_told_in_the_unit_that_fits() -> None:
    assert [size_text(size) for size in (0, 999, 1_500, 40_127, 2_500_000_000)] == [
        "0 B",
        "999 B",
        "1.5 kB",
        "40.1 kB",
        "2.5 GB",
    ]


def test_a_name_that_no_source_may_have_is_told_before_anything_is_sent() -> None:
    with pytest.raises(InvalidInput, match=r"a PATH is missing.*; no source may be called 'items'") as told:
        _check("catalog", [], NOTHING, server_path=False, database="", name="items")
    assert told.value.code == "bad_usage"
    _check("catalog", ["a.csv"], NOTHING, server_path=False, database="", name="mice")


def test_a_column_of_a_result_is_told_apart_from_one_of_the_source(capsys: pytest.CaptureFixture[str]) -> None:
    columns = [sources_pb2.SourceColumn(name=name) for name in ("id", "confidence", "cost", "model")]
    source = source_view(planner_pb2.Source(name="mice", columns=columns, key=["id"]))
    page = sources_pb2.RowPage(rows=[sources_pb2.TableRow(key="a", values=b'{"confidence": 0.5, "cost": 2}')], total=1)
    page.rows[0].result.CopyFrom(sources_pb2.RowResult(state="completed", confidence=0.9, cost_micros=5))
    page.results.processor = "scan"
    for chosen, names in (
        ("confidence,model", ["CONFIDENCE", "MODEL", "STATE", "RESULT.CONFIDENCE", "COST"]),
        ("cost", ["COST", "STATE", "CONFIDENCE", "RESULT.COST"]),
        ("model", ["MODEL", "STATE", "CONFIDENCE", "COST"]),
    ):
        print_page(row_page_view(page), source, columns=chosen, skip=0, groups=False, plan=False)
        head = capsys.readouterr().out.splitlines()[0].split()
        assert head == ["ROW", "KEY", "GROUP", *names, "SECONDS", "RUN", "ENDED"]
        assert len(set(head)) == len(head)


def test_rows_of_a_source_and_of_a_plan_take_the_same_options_in_the_same_words() -> None:
    def told(app: typer.Typer, command: str) -> dict[str, object]:
        found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
        named = [one for one in found.params if one.name not in ("source", "plan")]
        return {one.name: (one.opts, one.help, one.default) for one in named}

    assert told(sources.app, "rows") == told(plans.app, "order")
    assert "result_of" in told(sources.app, "rows")
