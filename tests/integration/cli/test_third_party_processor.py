"""A processor in a package of its own runs without a change to Penstock."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import StackFactory
from tests.integration.cli.conftest import carried_out
from tests.servers.site import install_processor

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "word-frequency"


def test_the_example_is_installed_found_and_run(fresh_stack: StackFactory, tmp_path: Path) -> None:
    # A copy, because building writes beside what it builds.
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLE, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", str(site), str(source)], check=True)

    stack = fresh_stack(environment={"PYTHONPATH": str(site)})
    stack.start()
    listed = carried_out("processors", "list", "--json", data=stack.data).json()
    ours = next(processor for processor in listed if processor["name"] == "word-frequency")
    assert ours["version"] == "1.0.0"
    assert set(ours["parameters_schema"]["properties"]) == {"top", "shortest"}

    run = ("runs", "start", "--items", EXAMPLE / "items.jsonl", "--processor", "word-frequency")
    wrong = carried_out(*run, "--param", "top=0", data=stack.data)
    assert wrong.code == 2
    assert "top" in wrong.err
    done = carried_out(*run, "--param", "top=2", "--wait", "--json", data=stack.data)
    assert done.code == 0, done.err
    number = str(done.lines()[-1]["run"]["number"])
    results = {
        item["key"]: item["result"] for item in carried_out("runs", "items", number, "--json", data=stack.data).lines()
    }
    assert results["sluice"]["top"] == [["sluice", 2], ["water", 2]]


def test_items_it_can_not_do_fail_alone_with_its_reason(fresh_stack: StackFactory, tmp_path: Path) -> None:
    name, target = "word-frequency", "word_frequency:WordFrequency"
    environment = install_processor(tmp_path / "site", EXAMPLE / "word_frequency", name=name, target=target)
    items = tmp_path / "items.jsonl"
    items.write_text('{"key": "good", "payload": {"text": "enough words here"}}\n{"key": "bad", "payload": {}}\n')

    stack = fresh_stack(environment=environment)
    stack.start()
    run = ("runs", "start", "--items", items, "--processor", "word-frequency", "--wait", "--json")
    done = carried_out(*run, data=stack.data)
    assert done.code == 3, "completed with failures"
    number = str(done.lines()[-1]["run"]["number"])
    failed = carried_out("runs", "items", number, "--state", "failed", "--json", data=stack.data).lines()
    assert [(item["key"], item["tries"]) for item in failed] == [("bad", 1)]
    assert "payload.text" in failed[0]["error"]
