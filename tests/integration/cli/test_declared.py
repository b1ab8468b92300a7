"""Processors declared in a file, as their operators have them: checked, listed, run, changed, and cleaned up after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock.client.resources import StageOptions
from penstock.runtime.errors import Conflict
from tests.conftest import StackFactory
from tests.integration.cli.conftest import Answer, carried_out
from tests.integration.declared.trial import alive
from tests.servers.stack import Stack, until
from worker.agent import CHANGES_SECONDS

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "reading-ease"
DECLARATION = EXAMPLE / "reading-ease.toml"
HEAD = 'name = "{name}"\nversion = "1"\nkind = "command"\ndescription = "For a test."\n'


def version_of(file: Path) -> str:
    return f"1+{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"


def declare(folder: Path, name: str, script: str, more: str = "") -> Path:
    """A shell script as a processor; put in its place in one step, as whoever changes a file that is used should."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.sh").write_text(script)
    new = folder / f".{name}.new"
    new.write_text(f'{HEAD.format(name=name)}argv = ["sh", "{{here}}/{name}.sh", "{{payload.n}}"]\n{more}')
    file = folder / f"{name}.toml"
    os.replace(new, file)
    return file


def get(stack: Stack, path: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(f"{stack.url}/api/v1{path}", timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def items(folder: Path, payloads: list[dict[str, Any]]) -> Path:
    file = folder / "items.jsonl"
    file.write_text("".join(json.dumps({"key": f"k{n}", "payload": one}) + "\n" for n, one in enumerate(payloads)))
    return file


class TestCheck:
    """`penstock processors check`: no server is needed."""

    def check(self, file: Path, *arguments: str) -> Answer:
        return carried_out("processors", "check", file, *arguments, SECRET="s")

    def test_a_declaration_that_is_right_is_said_to_be(self) -> None:
        told = self.check(DECLARATION)
        assert (told.code, told.out) == (0, f"{DECLARATION}: reading-ease {version_of(DECLARATION)} is right\n")

    def test_all_that_is_wrong_is_told_with_its_line(self, tmp_path: Path) -> None:
        file = tmp_path / "wrong.toml"
        file.write_text(HEAD.format(name="wrong") + 'argv = ["{nobody}"]\nwall = 3\n')
        told = self.check(file)
        assert told.code == 2
        assert [line.rpartition(f"{file}:")[2][:2] for line in told.err.splitlines()] == ["5:", "6:"]
        view = self.check(file, "--json")
        assert view.code == 2
        assert [problem["line"] for problem in view.json()["problems"]] == [5, 6]
        missing = self.check(tmp_path / "nobody.toml")
        assert missing.code == 2
        assert "No such file" in missing.err

    def test_an_item_shows_what_would_be_started_and_starts_nothing(self, tmp_path: Path) -> None:
        more = 'limits = ["domain:{payload.site}"]\n[payload]\nrequired = ["site"]\n'
        file = declare(tmp_path, "touching", f"touch {tmp_path}/started; echo '::progress 1/1 done' >&2; echo 1", more)
        item = json.dumps({"key": "a", "payload": {"n": 3, "site": "a.example"}})
        told = self.check(file, "--item", item, "--json")
        assert told.code == 0
        view = told.json()["dry_run"]
        assert view["argv"] == ["sh", f"{tmp_path}/touching.sh", "3"]
        assert view["limits"] == ["domain:a.example"]
        assert view["input"]["payload"] == {"n": 3, "site": "a.example"}
        assert view["problem"] is None
        assert "SECRET" not in told.out
        assert not (tmp_path / "started").exists()
        ran = self.check(file, "--item", item, "--json", "--run")
        assert (ran.code, ran.json()["outcome"]["ended"], ran.json()["outcome"]["value"]) == (0, "completed", 1)
        assert "100 % done" in ran.err
        assert (tmp_path / "started").exists()

    def test_items_that_can_not_be_are_refused(self) -> None:
        for item in ("broken", '{"key": "a", "pay": 1}'):
            told = self.check(DECLARATION, "--item", item)
            assert told.code == 2, item
            assert "--item" in told.err
        assert self.check(DECLARATION, "--run").code == 2
        short = self.check(DECLARATION, "--item", '{"key": "a", "payload": {"text": "Too short."}}', "--run", "--json")
        assert short.code == 3
        assert short.json()["outcome"]["kind"] == "refused"
        wrong = self.check(DECLARATION, "--item", '{"key": "a"}', "--param", "least_words=0")
        assert wrong.code == 2
        assert "least_words" in wrong.err


@pytest.fixture
def folder(stack: Stack) -> Iterator[Path]:
    """Of the session's stack; what a test declares there is gone after it."""
    folder = stack.data / "processors"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_a_processor_is_declared_found_and_run_without_a_restart(stack: Stack, folder: Path) -> None:
    run = ("runs", "start", "--items", EXAMPLE / "items.jsonl", "--processor", "reading-ease", "--wait", "--json")
    assert "no processor named 'reading-ease'" in carried_out(*run, data=stack.data).err
    folder.mkdir()
    for name in ("reading-ease.toml", "reading_ease.py"):
        shutil.copy(EXAMPLE / name, folder)
    (folder / "broken.toml").write_text(HEAD.format(name="broken") + "argv = 3\n")

    done = carried_out(*run, data=stack.data)
    assert done.code == 3, "completed with failures"
    number = str(done.lines()[-1]["run"]["number"])
    told = {one["key"]: one for one in carried_out("runs", "items", number, "--json", data=stack.data).lines()}
    assert told["sluice"]["result"] == {"ease": 97.0, "words": 14, "sentences": 2}
    assert told["turbine"]["state"] == "completed"
    assert (told["short"]["state"], told["short"]["tries"]) == ("failed", 1)
    assert told["short"]["error"].startswith("it exited with 3: the text has 2 words, 5 are needed")

    listed = {one["name"]: one for one in carried_out("processors", "list", "--json", data=stack.data).json()}
    ours = listed["reading-ease"]
    assert (ours["kind"], ours["version"]) == ("command", version_of(DECLARATION))
    assert set(ours["parameters_schema"]["properties"]) == {"least_words"}
    assert listed["noop"]["kind"] == "code"
    assert listed["broken"]["problems"][0]["line"] == 5
    assert "can't be used: line 5" in carried_out("processors", "list", data=stack.data).out
    shown = carried_out("processors", "show", "reading-ease", data=stack.data)
    assert (shown.code, [line.split(maxsplit=2) for line in shown.out.splitlines() if "exit" in line]) == (
        0,
        [
            ["exit", str(one["code"]), one["kind"] + (", never tried again" if one["permanent"] else "")]
            for one in ours["exits"]
        ],
    )
    assert [one["code"] for one in ours["exits"]] == [3]
    broken = carried_out("processors", "show", "broken", data=stack.data)
    assert (broken.code, "line 5" in broken.out) == (2, True)
    refused = carried_out(*run[:5], "broken", data=stack.data)
    assert refused.code == 2
    assert "line 5" in refused.err
    assert "reading-ease" in carried_out("processors", "show", "nobody", data=stack.data).err

    assert get(stack, "/processors/reading-ease")[1] == ours
    assert get(stack, "/processors/broken/check")[1]["usable"] is False
    status, checked = get(stack, "/processors/reading-ease/check")
    assert (status, checked["usable"], checked["version"]) == (200, True, version_of(DECLARATION))
    assert get(stack, "/processors/nobody")[0] == 404
    assert stack.client.processors.get("reading-ease").file_hash == checked["file_hash"]


def test_a_worker_whose_file_differs_takes_no_such_lease(stack: Stack, folder: Path, tmp_path: Path) -> None:
    file = declare(folder, "counting", "echo $1")
    first, before = version_of(file), file.read_bytes()
    client = stack.client
    source = client.sources.items(items(tmp_path, [{"n": n} for n in (1, 2, 3)])).source_id
    old = client.plans.create(source, stages=[StageOptions(processor="counting")])
    assert old.stages[0].processor_version == first
    declare(folder, "counting", "echo $1$1", "# another\n")
    new = client.plans.create(source, stages=[StageOptions(processor="counting")])
    assert new.plan_id != old.plan_id
    with pytest.raises(Conflict, match="make the plan again, or see that a worker has the old one"):
        client.runs.start(old.plan_id)
    # A worker that asked in between, with what it had read then, may be given what it asked for.
    time.sleep(CHANGES_SECONDS + 5)
    waiting = client.run(client.runs.start(old.plan_id, confirm=True))
    assert client.run(client.runs.start(new.plan_id)).wait().counts.completed == 3
    assert waiting.refresh().counts.completed == 0, "items ran by another declaration than their plan promised"
    file.with_name(".back").write_bytes(before)
    os.replace(file.with_name(".back"), file)
    assert waiting.wait().counts.completed == 3


def test_names_that_local_workers_do_not_have_are_told_before_the_start(
    stack: Stack, folder: Path, tmp_path: Path
) -> None:
    declare(folder, "needy", "echo 1", '[environment]\nneeds = ["PATH", "NOBODY_HAS_THIS_KEY"]\n')
    source = stack.client.sources.items(items(tmp_path, [{"n": 1}])).source_id
    plan = stack.client.plans.create(source, stages=[StageOptions(processor="needy")], validate_only=True)
    assert [(one.code, "needs NOBODY_HAS_THIS_KEY," in one.message) for one in plan.warnings] == [
        ("missing_environment", True)
    ], "PATH is what they have"
    with pytest.raises(Conflict, match="NOBODY_HAS_THIS_KEY") as refused:
        stack.client.runs.start(plan.plan_id)
    assert refused.value.code == "confirm_required"


def test_what_can_not_start_is_told_before_anybody_is_asked(stack: Stack, folder: Path, tmp_path: Path) -> None:
    file = declare(folder, "going", "echo 1")
    source = stack.client.sources.items(items(tmp_path, [{"n": 1}])).source_id
    plan = stack.client.plans.create(source, stages=[StageOptions(processor="going")])
    file.unlink()
    refused = carried_out("plans", "start", plan.plan_id, data=stack.data)
    assert refused.code == 1
    assert "can't start: no processor named 'going'" in refused.err
    assert "[y/N]" not in refused.err
    assert "--yes" not in refused.err


def test_whatever_ends_an_item_ends_all_that_its_program_started(fresh_stack: StackFactory, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    stack = fresh_stack(environment={"TMPDIR": str(temporary)}, arguments=("--workers", "1"))
    stack.start()
    mark = tmp_path / f"mark-{os.urandom(6).hex()}"
    mark.symlink_to("/bin/sleep")
    declare(
        stack.data / "processors",
        "hanging",
        f"[ -e {tmp_path}/go ] && echo 1 && exit; trap '' TERM; (setsid {mark} 1000 >/dev/null 2>&1 &)\n"
        f"echo '::progress 1/2 waiting for ever' >&2; {mark} 1001; {mark} 1002",
    )
    client = stack.client
    source = client.sources.items(items(tmp_path, [{"n": 1}])).source_id
    plan_id = client.plans.create(source, stages=[StageOptions(processor="hanging")]).plan_id

    run = client.run(client.runs.start(plan_id))
    until("the program and its daemon run", lambda: len(alive(mark.name)) >= 2)
    until("its phase is shown", lambda: run.refresh().stages[0].phase == "waiting for ever")
    run.stop(force=True)
    until("nothing lives of what was force-stopped", lambda: not alive(mark.name), seconds=30)

    run = client.run(client.runs.start(plan_id))
    until("the program and its daemon run", lambda: len(alive(mark.name)) >= 2)
    (tmp_path / "go").touch()
    stack.kill("worker-1")
    until("nothing lives of what a killed worker ran", lambda: not alive(mark.name), seconds=20)
    assert run.wait().counts.completed == 1, "it ran again"
    until("its folders are gone", lambda: not list(temporary.glob("penstock-item-*")), seconds=20)

    (tmp_path / "go").unlink()
    run = client.run(client.runs.start(plan_id))
    until("the program and its daemon run", lambda: len(alive(mark.name)) >= 2)
    assert stack.stop() == 0
    assert not alive(mark.name), "it outlived Penstock"
    assert not list(temporary.glob("penstock-item-*"))
