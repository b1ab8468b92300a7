"""Settings are refused where they can't work, in a sentence; their table tells what may be written."""

from __future__ import annotations

import pytest

from penstock.runtime.errors import InvalidInput
from penstock.runtime.settings import describe, load


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SCHEDULER__LEASE_TERM_SECONDS", "0.001"),
        ("SCHEDULER__SWEEP_SECONDS", "0.000001"),
        ("REDIS_URL", "foo://x"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://host:port/0"),
        ("REDIS_URL", "redis://host:99999"),
        ("REDIS_URL", "unix://"),
    ],
)
def test_what_cannot_work_is_refused_by_its_name(name: str, value: str) -> None:
    with pytest.raises(InvalidInput) as told:
        load({f"PENSTOCK_{name}": value})
    assert told.value.code == "settings"
    assert name.lower().replace("__", ".") in told.value.message


@pytest.mark.parametrize(
    "url", ["", "redis://127.0.0.1:6379/0", "redis://:secret@host", "rediss://host:1", "unix:///r.sock?db=1"]
)
def test_redis_is_named_by_its_url(url: str) -> None:
    assert load({"PENSTOCK_REDIS_URL": url}).redis_url == url


def test_the_table_tells_defaults_as_they_are_written_and_choices() -> None:
    told = {name: (default, text) for name, default, text in describe()}
    assert told["scheduler.owner_weights"][0] == "", "none is set"
    assert not [name for name, (default, _) in told.items() if "Undefined" in default]
    assert [told[name][0] for name in ("data", "redis_url", "gateway.cors_origins")] == ["", "", ""]
    assert [told[name][0] for name in ("gateway.host", "scheduler.lease_term_seconds", "scheduler.window_items")] == [
        *("127.0.0.1", "30", "4000"),
    ]
    assert told["trace_exporter"][1].endswith("One of none, console, otlp.")
    assert told["analyzer.embedding_provider"][1].endswith("One of offline, ollama, openai, sentence-transformers.")


@pytest.mark.parametrize("value", ["echoer,noop", '["echoer", "noop"]', ' ["echoer","noop"] '])
def test_a_list_in_the_environment_has_commas_or_is_a_json_array(value: str) -> None:
    assert load({"PENSTOCK_PLANNER__DISABLED_PROCESSORS": value}).planner.disabled_processors == ("echoer", "noop")
    assert load({"PENSTOCK_PLANNER__DISABLED_PROCESSORS": "[]"}).planner.disabled_processors == ()


@pytest.mark.parametrize(
    "value", ["[echoer]", '["echoer"', '["echoer"],noop', '["echoer", 1]', "[null]", '[["echoer"]]']
)
def test_a_list_that_begins_as_an_array_and_is_none_is_refused(value: str) -> None:
    with pytest.raises(InvalidInput) as told:
        load({"PENSTOCK_PLANNER__DISABLED_PROCESSORS": value})
    assert told.value.code == "settings"
    assert "PENSTOCK_PLANNER__DISABLED_PROCESSORS: what begins with [ is a JSON array of texts" in told.value.message
