"""What a program gets, what it may answer, and what its item then is."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.processor import Deferred, Failure, Result, Throttled
from penstock.runtime.environment import Environment
from tests.integration.declared.trial import Trial

ECHO = '["cat"]'


async def test_the_item_comes_as_json_and_what_is_printed_is_the_result(trial: Trial) -> None:
    cat = trial.processor(ECHO, "[parameters.top]\ntype = 'integer'\ndefault = 4\n")
    told = await trial.outcome(cat, {"a": [1, None]}, attempt=3, tries=2, saved={"s": 1}, heals=1)
    assert isinstance(told, Result)
    assert told.value == {
        "run_id": "run",
        "stage": 0,
        "seq": 0,
        "key": "k",
        "group": "g",
        "payload": {"a": [1, None]},
        "attempt": 3,
        "tries": 2,
        "mode": "work",
        "context": None,
        "saved": {"s": 1},
        "reserved_micros": None,
        "heals": 1,
        "parameters": {"top": 4},
    }


async def test_input_and_output_may_be_files(trial: Trial) -> None:
    more = 'input = "file"\noutput = "file"\n'
    copy = trial.processor('["sh", "-c", "cat > /dev/null; cp $0 $1; echo not this", "{input}", "{output}"]', more)
    told = await trial.outcome(copy, {"x": 1})
    assert isinstance(told, Result)
    assert told.value["payload"] == {"x": 1}
    nothing = trial.processor('["true", "{input}", "{output}"]', more)
    told = await trial.outcome(nothing)
    assert isinstance(told, Failure)
    assert (told.kind, told.message) == ("invalid_result", "it wrote no output")


@pytest.mark.parametrize("left", ["mkfifo", "mkdir", "ln -s /etc/hostname"])
async def test_an_output_that_is_no_file_is_refused_and_waits_for_nobody(trial: Trial, left: str) -> None:
    told = await trial.outcome(trial.processor(f'["sh", "-c", "{left} $0", "{{output}}"]', 'output = "file"\n'))
    assert isinstance(told, Failure)
    assert told.kind == "invalid_result"


async def test_arguments_are_filled_in_and_no_shell_sees_them(trial: Trial) -> None:
    (trial.folder / "arguments.py").write_text("import sys, json; json.dump(sys.argv[1:], sys.stdout)")
    argv = '["python3", "{here}/arguments.py", "--u={payload.u}", "{payload.gone?}", "{key}/{seq}", "{parameters.p}"]'
    program = trial.processor(argv, "[parameters.p]\ntype = 'boolean'\n")
    told = await trial.outcome(program, {"u": "$(touch x) 'é' \n;"}, parameters={"p": True})
    assert isinstance(told, Result)
    assert told.value == ["--u=$(touch x) 'é' \n;", "k/0", "true"]


@pytest.mark.parametrize("value", [None, "a\0b", "x" * 200_000])
async def test_a_value_that_no_argument_can_have_fails_its_item_for_good(trial: Trial, value: Any) -> None:
    told = await trial.outcome(trial.processor('["echo", "{payload.u}"]'), {"u": value})
    assert isinstance(told, Failure)
    assert told.permanent
    assert "argument" in told.message or "payload.u" in told.message


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.text(alphabet=st.sampled_from(string.printable + "é€😀"), min_size=0, max_size=40))
async def test_in_a_shell_a_value_is_never_read_as_shell(trial: Trial, value: str) -> None:
    script = """printf '%s\\n%s\\n' {payload.v} "$(printf %s x)" > out; od -An -v -tx1 out | tr -d ' \\n' > hex
printf '"%s"' "$(cat hex)"; test "$(ls | wc -l)" = 2"""
    shell = trial.processor(json.dumps([script]), "shell = true\n")
    told = await trial.outcome(shell, {"v": value})
    assert isinstance(told, Result), told
    assert bytes.fromhex(told.value) == f"{value}\nx\n".encode()


async def test_of_the_environment_only_what_is_named_is_passed(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PENSTOCK_TOKEN_FILE", "SECRET", "KEY_A", "KEY_B"):
        monkeypatch.setenv(name, f"of {name}")
    program = trial.python(
        "import os, json; print(json.dumps(dict(os.environ) | {'cwd': os.getcwd()}))",
        "[environment]\nallow = ['KEY_A', 'KEY_C']\nneeds = ['KEY_B']\nset = {MINE = 'x'}\n",
    )
    told = await trial.outcome(program)
    assert isinstance(told, Result)
    seen = told.value
    assert (seen["KEY_A"], seen["KEY_B"], seen["MINE"]) == ("of KEY_A", "of KEY_B", "x")
    assert not {"PENSTOCK_TOKEN_FILE", "SECRET", "KEY_C"} & seen.keys()
    assert seen["HOME"] == seen["TMPDIR"] == seen["cwd"]
    monkeypatch.delenv("KEY_B")
    told = await trial.outcome(program)
    assert isinstance(told, Failure)
    assert (told.kind, told.permanent) == ("refused", False)
    assert "no KEY_B" in told.message


async def test_a_key_of_a_mounted_secret_is_passed_by_its_name_alone(trial: Trial, tmp_path: Path) -> None:
    secret = tmp_path / "secrets" / "anthropic"
    secret.mkdir(parents=True)
    (secret / "API_KEY").write_text("first\n")
    (secret / "OTHER_KEY").write_text("not asked for")
    trial.environment = Environment(tmp_path / "secrets")
    program = trial.python(
        "import os, json; print(json.dumps(dict(os.environ)))", "[environment]\nneeds = ['API_KEY']\n"
    )
    for value in ("first", "second"):
        (secret / "API_KEY").write_text(value)
        told = await trial.outcome(program)
        assert isinstance(told, Result), told
        assert told.value["API_KEY"] == value
        assert "OTHER_KEY" not in told.value


def there(places: Iterable[str]) -> bool:
    return any(Path(place).exists() for place in places)


async def test_each_item_has_a_folder_of_its_own_that_is_gone_afterwards(trial: Trial) -> None:
    script = "ls -A; pwd >&2; mkdir -p a/b; ln -s / a/root; touch a/b/c; chmod 000 a/b a; echo $$ > same; printf '[]'"
    seen = set()
    for _ in range(2):
        told = await trial.outcome(trial.sh(script, "keep_log = 'always'\n"))
        assert isinstance(told, Result)
        assert told.blob is not None
        seen.add(trial.blobs.get(told.blob.sha256).decode().strip())
    assert len(seen) == 2
    assert not there(seen)
    assert there(["/etc"]), "it was followed to where a link led"


async def test_a_payload_that_its_schema_refuses_starts_nothing(trial: Trial) -> None:
    program = trial.sh(f"touch {trial.folder}/started; echo 1", "[payload]\nrequired = ['u']\n")
    told = await trial.outcome(program, {"v": 1})
    assert told == Failure("payload has no u", permanent=True)
    assert not (trial.folder / "started").exists()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("", "its output is empty"),
        ("echo ok", "it begins 'ok'"),
        ("echo '{} {}'", "no JSON"),
        ("echo '[NaN]'", "no JSON"),
        ("printf '\\377'", "no JSON"),
        ("echo '[]'", "result is an array, not of type object"),
        ("echo '{}'", "result has no price"),
        ("""echo '{"price": -1}'""", "result.price is -1, it may be at least 0"),
    ],
)
async def test_what_is_no_result_is_invalid(trial: Trial, script: str, words: str) -> None:
    schema = "[result]\ntype = 'object'\nrequired = ['price']\n[result.properties.price]\nminimum = 0\n"
    told = await trial.outcome(trial.sh(script, schema))
    assert isinstance(told, Failure)
    assert (told.kind, told.permanent) == ("invalid_result", False)
    assert words in told.message


EXITS = """
limits = ["domain:{payload.site}", "provider:x"]
[exit.1]
kind = "completed"
[exit.3]
kind = "refused"
permanent = true
[exit.4]
kind = "throttled"
limit = "domain:{payload.site}"
wait = "again"
wait_seconds = 7
[exit.5]
kind = "deferred"
wait_seconds = 60
saved = "state"
"""


async def test_exit_codes_mean_what_the_declaration_says(trial: Trial) -> None:
    program = trial.processor(
        '["sh", "-c", "echo why >&2; echo $0; exit $1", "{payload.out}", "{payload.code}"]', EXITS
    )

    async def ended(code: int, out: str = '{"again": 12.5, "state": {"page": 2}}', site: str = "a.example") -> Any:
        return await trial.outcome(program, {"code": code, "out": out, "site": site})

    assert (await ended(0)).value["again"] == 12.5
    assert (await ended(1)).value["again"] == 12.5
    plain = await ended(2)
    assert (plain.kind, plain.permanent, plain.message.splitlines()[0]) == ("item", False, "it exited with 2: why")
    refused = await ended(3, "no JSON at all")
    assert (refused.kind, refused.permanent) == ("refused", True)
    assert await ended(4) == Throttled("domain:a.example", 12.5, "it exited with 4: why")
    assert (await ended(4, "{}")).retry_after_seconds == 7
    assert await ended(5) == Deferred(after_seconds=60, saved={"page": 2})


async def test_other_modes_may_have_another_program(trial: Trial) -> None:
    program = trial.processor(
        '["sh", "-c", "echo 1"]',
        "[heal]\nargv = [\"cat\"]\n[confirm]\nshell = true\nargv = ['test {payload.x} = 1']\n[result]\n",
    )
    assert (await trial.outcome(program)) == Result(1)
    healed = await trial.outcome(program, mode="heal", context={"error": "why", "kind": "item"})
    assert isinstance(healed, Result)
    assert (healed.value["mode"], healed.value["context"]) == ("heal", {"error": "why", "kind": "item"})
    assert await trial.outcome(program, {"x": 1}, mode="confirm") == Result(None)
    disagrees = await trial.outcome(program, {"x": 2}, mode="confirm")
    assert isinstance(disagrees, Failure)
    assert disagrees.kind == "unconfirmed"


MONEY = 'paid = true\n[cost]\ndollars = "usage.usd"\nused = {tokens = "usage.tokens"}\n'


@pytest.mark.parametrize(
    ("out", "code", "micros", "used", "unknown"),
    [
        ('{"usage": {"usd": 0.001234, "tokens": 5}}', 0, 1234, {"tokens": 5}, False),
        ('{"usage": {"usd": 0.5}}', 3, 500_000, None, False),
        ('{"usage": {}}', 0, 0, None, True),
        ('{"usage": {"usd": -1}}', 0, 0, None, True),
        ('{"usage": {"usd": "1"}}', 0, 0, None, True),
        ('{"usage": {"usd": 1, "tokens": 1.5}}', 0, 1_000_000, None, True),
        ("broken", 3, 0, None, True),
    ],
)
async def test_what_it_cost_counts_however_it_ends(
    trial: Trial, out: str, code: int, micros: int, used: Any, unknown: bool
) -> None:
    told: Any = await trial.outcome(
        trial.processor(f'["sh", "-c", "echo $0; exit {code}", "{{payload.out}}"]', MONEY), {"out": out}
    )
    assert (told.cost_micros, told.used) == (micros, used)
    assert getattr(told, "cost_unknown", False) is unknown
    assert isinstance(told, Result) is (code == 0 and not unknown)


async def test_lines_of_progress_are_shown_and_no_part_of_the_log(trial: Trial) -> None:
    script = """printf '::progress 1/4 read' >&2; printf 'ing\\nplain\\n::progress 50%% half\\n' >&2
echo '::progress 0.75' >&2; echo '::progress never mind' >&2; echo '::progression' >&2
printf '::progress 4/4 end' >&2; exit 9"""
    told = await trial.outcome(trial.sh(script))
    assert trial.told == [(0.25, "reading"), (0.5, "half"), (0.75, ""), (1.0, "end")]
    assert isinstance(told, Failure)
    assert told.message == "it exited with 9: ::progression\nThe end of its log:\nplain\n::progression"


async def test_a_long_log_is_kept_whole_and_told_by_its_end(trial: Trial) -> None:
    script = "seq 1 5000 >&2; printf 'the \\033[31mlast\\033[0m\\r\\n' >&2; seq 1 3000; exit 7"
    told = await trial.outcome(trial.sh(script))
    assert isinstance(told, Failure)
    assert told.message.startswith("it exited with 7: the [31mlast[0m\n")
    assert "\n5000\nthe [31mlast[0m\nIts whole log: blob " in told.message
    assert len(told.message) < 3_000
    log, output = (line.rpartition(" ")[2] for line in told.message.splitlines()[-2:])
    assert trial.blobs.get(log).startswith(b"1\n2\n")
    assert trial.blobs.get(output).endswith(b"\n3000\n")


async def test_of_a_log_without_end_the_middle_is_left_out(trial: Trial) -> None:
    told = await trial.outcome(trial.sh("seq 1 200000 >&2; exit 7", "log_bytes = 8192\n"))
    assert isinstance(told, Failure)
    kept = trial.blobs.get(told.message.splitlines()[-1].rpartition(" ")[2])
    assert kept.startswith(b"1\n2\n")
    assert kept.endswith(b"199999\n200000\n")
    assert b"bytes left out ...\n" in kept
    assert len(kept) < 8192 + 50


async def test_equal_failures_are_equal_though_their_numbers_differ(trial: Trial) -> None:
    program = trial.processor('["sh", "-c", "seq 1 $0 >&2; echo no page at /x/$0 >&2; exit 3", "{payload.n}"]')
    first: Any = await trial.outcome(program, {"n": 3})
    second: Any = await trial.outcome(program, {"n": 2500})
    other: Any = await trial.outcome(trial.sh("echo refused >&2; exit 3"))
    assert first.fingerprint == second.fingerprint != other.fingerprint


@pytest.mark.parametrize("program", ["nobody-has-this", "/etc/passwd", "./missing"])
async def test_a_program_that_can_not_be_started_is_told(trial: Trial, program: str) -> None:
    told = await trial.outcome(trial.processor(f'["{program}"]'))
    assert isinstance(told, Failure)
    assert (told.kind, told.permanent, told.cost_unknown) == ("refused", False, False)
    assert told.message.startswith(f"{program} can't be started: ")
