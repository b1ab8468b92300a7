"""The folder of processors: what is there now, whatever else lies there."""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from penstock.declared import folder
from penstock.declared.folder import INSTALLED, SETTLED_NS, Processors
from penstock.runtime.errors import InvalidInput, NotFound
from planner.processors import COMMAND, listed
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
        ("folder", False),
        ("gone", False),
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


def hostile(place: Path) -> None:
    """Each of these alone once hid every other declaration, or failed whoever listed them."""
    (place / "itself.toml").symlink_to(place / "itself.toml")
    os.mkfifo(place / "pipe.toml")
    (place / "zero.toml").symlink_to("/dev/zero")
    (place / "long.toml").write_text(f"concurrency = {'9' * 5_000}\n" + declared("long"))
    (place / "wide.toml").write_text(declared("wide", f"[payload]\ndefault = {2**70}\n"))
    (place / "most.toml").write_text(declared("most", f'[parameters.n]\ntype = "integer"\nmaximum = {2**70}\n'))
    (place / "line\nbreak.toml").write_text(declared("x"))
    with open(os.fsencode(place) + b"/\xff.toml", "w") as file:
        file.write(declared("x"))
    (place / "mark.toml").write_bytes(b"\xef\xbb\xbf" + declared("mark").encode())
    (place / "wide16.toml").write_bytes(declared("wide16").encode("utf-16"))


def test_what_is_no_file_or_no_text_hides_nobody_and_is_told(tmp_path: Path) -> None:
    hostile(tmp_path)
    (tmp_path / "good.toml").write_text(declared("good"))
    processors = Processors(tmp_path)
    told = {one.name: "; ".join(map(str, one.problems)) for one in processors.declared()}
    assert {name for name, problems in told.items() if not problems} == {"good"}
    assert processors.load("good").name == "good"
    assert "symbolic links" in told["itself"]
    assert told["pipe"] == told["zero"] == "it can't be read: a declaration is a file, and this is none"
    assert told["long"].startswith("line 1: it can't be read: Exceeds the limit (4300")
    assert told["wide"] == "line 6: payload: no JSON can say it: integer exceeds 64-bit range"
    assert told["most"] == "parameters: no JSON can say it: integer exceeds 64-bit range"
    assert "save it as UTF-8 without one" in told["mark"]
    assert "save it as UTF-8" in told["wide16"]
    assert [one.name for one in listed(processors) if not one.problems and one.kind == COMMAND] == ["good"]
    assert all(one.file.isprintable() for one in listed(processors))


def test_every_beginning_of_a_file_is_wrong_or_another_processor(tmp_path: Path) -> None:
    """What reads it while it is written never takes a part for the whole."""
    whole = declared("one", '[payload]\nrequired = ["site"]\n[environment]\nneeds = ["KEY"]\n').encode()
    file, processors, versions = tmp_path / "one.toml", Processors(tmp_path), set()
    for size in range(len(whole) + 1):
        file.write_bytes(whole[:size])
        (found,) = processors.declared()
        versions.add(found.processor.version if found.processor else str(size))
    assert len(versions) == len(whole) + 1


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.ns = time.time_ns()

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read."""
    real, seen = folder.declared_in, []

    def noted(file: Path, **more: Any) -> folder.Declared:
        seen.append(file.name)
        return real(file, **more)

    monkeypatch.setattr(folder, "declared_in", noted)
    return seen


def test_a_file_that_is_written_again_in_the_same_moment_is_read_again(tmp_path: Path) -> None:
    """Clocks of disks tick some times a millisecond at best: same place, same size, same times. So has what is stored
    in a page of the file that was stored in before."""
    file, now = tmp_path / "one.toml", Clock()
    processors = Processors(tmp_path, now_ns=now)
    file.write_text(declared("one", "concurrency = 1\n"))
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as page:
        page[-2:-1] = b"1"
        before = processors.load("one")
        page[-2:-1] = b"2"
        after = processors.load("one")
    assert (before.concurrency, after.concurrency) == (1, 2)
    assert processors.load("one") is after, "what is as it was stays the same class"


def test_a_file_that_nobody_changes_settles_and_is_read_no_more(tmp_path: Path, reads: list[str]) -> None:
    file, now = tmp_path / "one.toml", Clock()
    file.write_text(declared("one"))
    now.ns = file.stat().st_ctime_ns
    processors = Processors(tmp_path, now_ns=now)
    first = processors.load("one")
    now.ns += SETTLED_NS
    assert processors.load("one") is first
    assert len(reads) == 2, "another change may have these times yet"
    now.ns += 1
    assert processors.load("one") is first
    assert processors.load("one") is first
    assert len(reads) == 3


def test_a_file_that_is_dated_ahead_of_us_settles_once_it_was_looked_at_again(tmp_path: Path, reads: list[str]) -> None:
    file, now = tmp_path / "one.toml", Clock()
    file.write_text(declared("one"))
    ahead_ns = now.ns + 3_600_000_000_000
    os.utime(file, ns=(ahead_ns, ahead_ns))
    processors = Processors(tmp_path, now_ns=now)
    first = processors.load("one")
    now.ns += SETTLED_NS
    assert processors.load("one") is first
    assert len(reads) == 2
    now.ns += 1
    assert processors.load("one") is first
    now.ns += 1
    assert processors.load("one") is first
    assert len(reads) == 3, "it is read at every look"


def test_declarations_that_are_too_many_are_listed_as_one_problem_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MAX_FILES", 2)
    for name in ("a", "b", "c", "d"):
        (tmp_path / f"{name}.toml").write_text(declared(name))
    processors, said = Processors(tmp_path), []
    monkeypatch.setattr(folder.log, "warning", lambda _, **fields: said.append(fields))
    told = "it has 4 declarations, of which 2 are read, by name: c.toml and those after it are not; take some out"
    for _ in range(3):
        found = {one.name: [problem.text for problem in one.problems] for one in listed(processors)}
        assert {name: problems for name, problems in found.items() if problems} == {"(left out)": [told]}
        assert {"a", "b"} <= found.keys()
        assert "c" not in found
    with pytest.raises(NotFound, match="no processor named 'c'"):
        processors.load("c")
    (tmp_path / "a.toml").unlink()
    assert "of which 2 are read, by name: d.toml" in str(processors.declared()[-1].problems[0])
    (tmp_path / "b.toml").unlink()
    assert [one.name for one in processors.declared()] == ["c", "d"]
    (tmp_path / "e.toml").write_text(declared("e"))
    assert processors.declared()[-1].problems
    assert processors.declared()[-1].problems
    assert [one["found"] for one in said] == [4, 3, 3]


def test_who_asks_is_told_where_a_declaration_would_stand_and_that_the_folder_cant_be_read(tmp_path: Path) -> None:
    place = tmp_path / "processors"
    processors = Processors(place)
    with pytest.raises(NotFound, match=rf"noop; {place}/one\.toml would declare it$"):
        processors.load("one")
    place.write_text("a file")
    with pytest.raises(NotFound, match=rf"the folder of processors, {place}, can't be read: Not a directory$"):
        processors.load("one")
    place.unlink()
    place.mkdir()
    (place / "one.toml").write_text(declared("one"))
    assert processors.load("one").name == "one"
    for thing in ("a folder", "a link to nothing"):
        (place / "one.toml").rename(tmp_path / f"kept {thing}")
        if thing == "a folder":
            (place / "one.toml").mkdir()
        else:
            (place / "one.toml").symlink_to("nowhere")
        with pytest.raises(InvalidInput, match=rf"declared in {place}/one\.toml: it can't be read: ") as refused:
            processors.load("one")
        assert refused.value.code == "bad_processor"
        if thing == "a folder":
            (place / "one.toml").rmdir()
        else:
            (place / "one.toml").unlink()
        os.replace(tmp_path / f"kept {thing}", place / "one.toml")
        assert processors.load("one").name == "one"


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
