"""Set-up and checks: what they refuse, and that each check can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LONG
from tools import setup, verify
from tools.descriptions import package_descriptions, plain_text

ROOT = Path(__file__).resolve().parents[3]


def foreign(site: Path) -> None:
    """A distribution that provides our package `planner`, and one that does no harm."""
    for name, module in (("foreign_planner-1.0", "planner"), ("harmless-1.0", "harmless")):
        metadata = site / f"{name}.dist-info"
        metadata.mkdir(parents=True)
        title = name.rpartition("-")[0]
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {title}\nVersion: 1.0\n")
        (metadata / "top_level.txt").write_text(f"{module}\n")
        (metadata / "RECORD").write_text(f"{module}.py,,\n")
        (site / f"{module}.py").write_text("")


def test_another_distribution_with_one_of_our_names_is_found(tmp_path: Path) -> None:
    site = tmp_path / "site"
    foreign(site)
    program = f"import sys; sys.path.insert(0, {str(site)!r})\n{setup.FOREIGN_CHECK}"
    told = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["planner foreign-planner"]


def test_one_that_came_after_set_up_is_refused_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    monkeypatch.setattr(setup, "VENV", environment)
    monkeypatch.setattr(setup, "PYTHON", environment / "bin" / "python")
    setup.stamp("runtime").write_text(setup.fingerprint("runtime"))
    setup.main("runtime")
    foreign(next(environment.glob("lib/python*/site-packages")))
    with pytest.raises(SystemExit):
        setup.main("runtime")
    told = capsys.readouterr().err
    assert "foreign-planner" in told
    assert len(told.splitlines()) == 1


def test_this_environment_has_no_such_distribution() -> None:
    command = [sys.executable, "-I", "-c", setup.FOREIGN_CHECK]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_an_old_python_and_one_without_venv_are_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup, "OLDEST", (99, 0))
    with pytest.raises(SystemExit):
        setup.check_python()
    assert len(capsys.readouterr().err.splitlines()) == 1
    monkeypatch.setattr(setup, "OLDEST", (3, 11))
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit):
        setup.check_python()
    told = capsys.readouterr().err
    assert "python3-venv" in told
    assert len(told.splitlines()) == 1


def test_a_changed_lock_means_set_up_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("requirements.lock", "pyproject.toml", "tools/setup.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a")
    monkeypatch.setattr(setup, "ROOT", tmp_path)
    before = setup.fingerprint("runtime")
    assert setup.fingerprint("runtime") == before
    (tmp_path / "requirements.lock").write_text("b")
    assert setup.fingerprint("runtime") != before


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["Some.Thing>=1"]\n[dependency-groups]\ndev = ["other>=2"]\n'
    )
    pin = "some-thing==1.0 \\\n    --hash=sha256:00\n"
    (tmp_path / "requirements.lock").write_text(pin)
    (tmp_path / "requirements-dev.lock").write_text(pin + "other==2.0 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(verify, "ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("other==1.0 \\\n    --hash=sha256:00\n", "does not pin some-thing"),
        ("some-thing==1.0\n", "without a hash"),
        ("--index-url https://example.org\nsome-thing==1.0 \\\n    --hash=sha256:00\n", "names a host"),
        ("some-thing==1.1 \\\n    --hash=sha256:00\n", "requirements-dev.lock has some-thing 1.0"),
    ],
)
def test_faults_of_the_lock_are_found(project: Path, text: str, words: str) -> None:
    assert verify.locks() == []
    (project / "requirements.lock").write_text(text)
    assert any(words in problem for problem in verify.locks())


@pytest.mark.parametrize(
    ("name", "begin", "end"),
    [("operating.md", verify.TABLE_BEGIN, verify.TABLE_END), ("http.md", verify.RULES_BEGIN, verify.RULES_END)],
)
def test_an_old_table_is_found_and_written_anew(project: Path, name: str, begin: str, end: str) -> None:
    pages = {"operating.md": (verify.TABLE_BEGIN, verify.TABLE_END), "http.md": (verify.RULES_BEGIN, verify.RULES_END)}
    for other, marks in pages.items():
        (project / "docs" / other).write_text("\n".join(marks))
    verify.docs(write=True)
    assert verify.docs() == []
    page = project / "docs" / name
    page.write_text("no table here")
    assert verify.docs() != []
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    assert verify.docs() != []
    assert verify.docs(write=True) == []
    assert verify.docs() == []
    assert page.read_text().startswith("before\n")
    assert page.read_text().endswith("after\n")


def test_a_link_to_nothing_is_found(project: Path) -> None:
    (project / "README.md").write_text("[a](docs/none.md) [b](https://example.org) [c](#here)")
    assert verify.links() == ["README.md links to docs/none.md, which is not there"]


def test_descriptions_become_sentences() -> None:
    told = plain_text(
        "# Title\n\n[![badge](a)](b)\n\nA `library` that does *one* thing well, see [the docs](x) for my_own_name.\n\n"
        "```\npip install it\n```\n\n<p align=center>It also &amp; always does the other thing.</p>\n\n    code\n"
    )
    assert told == (
        "A library that does one thing well, see the docs for my_own_name.\n\nIt also & always does the other thing."
    )


def test_there_are_enough_of_them_for_the_demo() -> None:
    own = list((ROOT / "examples" / "documents").glob("*.txt"))
    assert len(own) == 12
    assert all(150 <= len(path.read_text().split()) <= 400 for path in own)
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    lock = {line.partition("==")[0].lower() for line in lines if "==" in line}
    described = {name.replace("_", "-") for name in package_descriptions()}
    assert len(own) + len(lock & described) >= 60


def test_every_test_file_that_is_to_begin_first_is_there() -> None:
    assert [name for name in LONG if len(list((ROOT / "tests").glob(f"**/{name}"))) != 1] == []
