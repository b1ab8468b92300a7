"""The folder of processors: what is there now, whatever else lies there."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from penstock.declared.folder import INSTALLED, Processors
from penstock.runtime.errors import InvalidInput, NotFound
from tests.unit.declared.declarations import SMALL


def declared(name: str, more: str = "") -> str:
    return SMALL.replace("trial", name) + more


def test_declared_processors_stand_beside_installed_ones(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(declared("one"))
    processors = Processors(tmp_path)
    assert processors.names() == sorted([*Processors().names(), "one"])
    assert processors.load("one").name == "one"
    assert processors.load("noop").version == "1"


def test_a_wrong_declaration_hides_nobody(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("name = ")
    (tmp_path / "good.toml").write_text(declared("good"))
    (tmp_path / "noop.toml").write_text(declared("noop"))
    (tmp_path / "gone.toml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / ".hidden.toml").write_text(declared("hidden"))
    (tmp_path / "other.txt").write_text(declared("other"))
    processors = Processors(tmp_path)
    assert [(one.name, one.processor is not None) for one in processors.declared()] == [
        ("bad", False),
        ("good", True),
        ("noop", False),
    ]
    assert "bad" not in processors.names()
    assert processors.load("noop") is INSTALLED.load("noop"), "a file took an installed processor's name"
    with pytest.raises(InvalidInput, match=r"bad\.toml: line 1: no TOML") as refused:
        processors.load("bad")
    assert refused.value.code == "bad_processor"
    with pytest.raises(NotFound, match="good, noop") as missing:
        processors.load("nobody")
    assert missing.value.code == "processor_not_found"


def test_changes_are_seen_and_what_stays_is_the_same_class(tmp_path: Path) -> None:
    processors = Processors(tmp_path / "later")
    assert processors.names() == Processors().names()
    (tmp_path / "later").mkdir()
    file = tmp_path / "later" / "one.toml"
    file.write_text(declared("one"))
    first = processors.load("one")
    assert processors.load("one") is first
    written = tmp_path / "new"
    written.write_text(declared("one", "paid = false\n"))
    os.replace(written, file)
    second = processors.load("one")
    assert second.version != first.version
    assert first.version.startswith("1+"), "what runs keeps what it began with"
    file.unlink()
    with pytest.raises(NotFound):
        processors.load("one")


def test_a_folder_as_kubernetes_mounts_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "one.toml").write_text(declared("one"))
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "one.toml").symlink_to("..data/one.toml")
    processors = Processors(tmp_path)
    before = processors.load("one").version
    (tmp_path / "..2027").mkdir()
    (tmp_path / "..2027" / "one.toml").write_text(declared("one", "repeatable = true\n"))
    (tmp_path / "..next").symlink_to("..2027")
    os.replace(tmp_path / "..next", tmp_path / "..data")
    assert processors.load("one").version != before


def test_what_the_class_says_is_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(
        declared(
            "one",
            'paid = true\nrepeatable = false\nconcurrency = 3\nlimits = ["domain:{payload.site}", "x:{payload.y?}"]\n',
        )
        + '[cost]\ndollars = "usd"\n[environment]\nneeds = ["KEY_A"]\n'
    )
    one = Processors(tmp_path).load("one")
    assert (one.paid, one.repeatable, one.concurrency, one.environment_needs) == (True, False, 3, ("KEY_A",))
    none = one.parameters_type()
    assert list(one.limit_keys({"site": "a.example"}, none)) == ["domain:a.example"]
    assert list(one.limit_keys({"site": "a", "y": 1}, none)) == ["domain:a", "x:1"]
    with pytest.raises(ValueError, match=r"payload\.site"):
        one.limit_keys({}, none)
    assert one.limit_fields(none) == ["site", "y"]


def test_limit_keys_hang_on_the_fields_that_their_placeholders_name(tmp_path: Path) -> None:
    limits = ["domain:{payload.site.host}-{payload.pages.0}", "provider:{parameters.of}", "x:{payload.site.port?}"]
    (tmp_path / "one.toml").write_text(
        declared("one", f"limits = {orjson.dumps(limits).decode()}\n") + '[parameters.of]\ntype = "string"\n'
    )
    one = Processors(tmp_path).load("one")
    parameters = one.parameters_type(of="y")  # type: ignore[call-arg]
    fields = one.limit_fields(parameters)
    assert fields == ["pages", "site"]
    payload = {"site": {"host": "a", "port": 1}, "pages": [7], "other": 1}
    told = one.limit_keys({name: payload[name] for name in fields}, parameters)
    assert told == one.limit_keys(payload, parameters) == ["domain:a-7", "provider:y", "x:1"]
