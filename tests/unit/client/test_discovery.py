"""Finding the server: arguments, environment, default folder; and one plain line when there is none."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.client.discovery import find
from penstock.runtime.errors import InvalidInput, Unavailable


def serving(folder: Path, pid: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "http": "http://127.0.0.1:8420",
        "planner": "127.0.0.1:1",
        "scheduler": "127.0.0.1:2",
        "analyzer": "127.0.0.1:3",
        "pids": {"supervisor": pid or os.getpid()},
    }
    (folder / "endpoints.json").write_text(json.dumps(told))
    (folder / "token").write_text("secret\n")
    return folder


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_data_folder_names_its_server(tmp_path: Path) -> None:
    found = find(data=serving(tmp_path / "data"), environment={})
    assert (found.planner, found.scheduler, found.analyzer) == ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    assert found.token == "secret"
    assert found.blobs == tmp_path / "data" / "blobs"


def test_the_argument_comes_before_the_environment_and_that_before_the_default(tmp_path: Path) -> None:
    one, two = serving(tmp_path / "one"), serving(tmp_path / "two")
    home = serving(tmp_path / "home" / ".local" / "share" / "penstock")
    environment = {"PENSTOCK_DATA": str(two), "HOME": str(tmp_path / "home")}
    assert find(data=one, environment=environment).data == one
    assert find(environment=environment).data == two
    assert find(environment={"HOME": str(tmp_path / "home")}).data == home


@pytest.mark.parametrize("state", ["nothing", "empty", "ended"])
def test_without_a_server_one_line_names_the_command(tmp_path: Path, state: str) -> None:
    environment = {"HOME": str(tmp_path)}
    if state != "nothing":
        environment["PENSTOCK_DATA"] = str(tmp_path / "data")
    if state == "ended":
        serving(tmp_path / "data", ended_pid())
    with pytest.raises(Unavailable) as refusal:
        find(environment=environment)
    assert "penstock up" in refusal.value.message
    assert "\n" not in refusal.value.message
    assert refusal.value.code == "not_running"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pids": 3}', '{"pids": {"supervisor": 1}}'])
def test_a_damaged_file_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "endpoints.json").write_text(text)
    with pytest.raises(Unavailable, match="penstock up"):
        find(data=tmp_path, environment={})


def test_a_url_that_nobody_answers_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="penstock up"):
        find(url="http://127.0.0.1:9", environment={})
    with pytest.raises(InvalidInput, match="is no URL"):
        find(environment={"PENSTOCK_URL": "127.0.0.1:8420", "HOME": str(tmp_path)})
