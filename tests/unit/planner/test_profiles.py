"""Profiles: what a stage says itself stays, and the rest is filled in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.declared.folder import INSTALLED
from penstock.runtime.errors import InvalidInput
from penstock.runtime.settings import ProfileSettings, load
from planner.domain.profiles import SHIPPED, Profile, profiled
from planner.domain.stages import StageRequest, range_problems
from planner.planning import Planning, PlanRequest
from planner.profiles import Profiles
from planner.sources import DOCUMENTS, ITEMS
from planner.store import SourceRow
from planner.worker_classes import WorkerClasses

NUMBERS = st.integers(0, 3)
PARAMETERS = st.dictionaries(st.sampled_from("abc"), NUMBERS)
FIELDS = ("concurrency", "max_tries", "max_run_seconds", "worker_class")


@st.composite
def stages(draw: st.DrawFn) -> StageRequest:
    return StageRequest(
        "p", draw(PARAMETERS), draw(NUMBERS), draw(NUMBERS), draw(NUMBERS), draw(st.sampled_from(("", "a"))), b"rules"
    )


@st.composite
def profiles(draw: st.DrawFn) -> Profile:
    parameters = {draw(st.sampled_from("pq")): draw(PARAMETERS)}
    return Profile(
        "x", draw(NUMBERS), draw(NUMBERS), draw(NUMBERS), draw(st.sampled_from(("", "b"))), parameters=parameters
    )


@given(stages(), profiles())
def test_what_the_stage_sets_stays_and_the_profile_fills_in_the_rest(stage: StageRequest, profile: Profile) -> None:
    found = profiled(stage, profile)
    for name in FIELDS:
        own = getattr(stage, name)
        assert getattr(found, name) == (own if own else getattr(profile, name))
    ours = profile.parameters.get("p", {})
    assert set(found.parameters) == {*stage.parameters, *ours}
    for name, value in found.parameters.items():
        assert value == (stage.parameters[name] if name in stage.parameters else ours[name])
    assert (found.processor, found.rules) == ("p", b"rules")
    assert profiled(found, profile) == found, "a second time there is nothing to fill in"


@given(stages())
def test_standard_is_what_every_stage_has_by_default(stage: StageRequest) -> None:
    assert profiled(stage, Profiles().get("standard")) == stage


def test_shipped_profiles_suit_every_processor() -> None:
    assert [profile.name for profile in SHIPPED] == ["fast", "standard", "thorough"]
    for profile in SHIPPED:
        stage = profiled(StageRequest("noop", {}), profile)
        assert range_problems(0, stage) == []
        assert (stage.parameters, stage.max_run_seconds, stage.worker_class) == ({}, 0, "")


def test_a_profile_that_is_set_stands_in_the_place_of_the_shipped_one_and_the_others_stay() -> None:
    found = Profiles({"night": ProfileSettings(max_tries=9), "fast": ProfileSettings(concurrency=7)})
    assert [profile.name for profile in found.all] == ["fast", "standard", "thorough", "night"]
    assert found.get("fast") == Profile("fast", concurrency=7), "whole: its tries are the stage's default again"
    with pytest.raises(InvalidInput, match="no profile 'nite'; there are: fast, standard, thorough, night") as told:
        found.get("nite")
    assert told.value.code == "unknown_profile"


def test_settings_of_profiles_are_refused_all_at_once_with_their_places() -> None:
    wrong = {
        "night": {"concurrency": 10_001, "tries": 3, "max_tries": -1},
        "Bad Name": {"parameters": {"noop": 3}},
    }
    with pytest.raises(InvalidInput) as told:
        load(
            {"PENSTOCK_PLANNER__PROFILES": json.dumps(wrong), "PENSTOCK_WORKER_CLASSES": '{"a": {"environment": "K"}}'}
        )
    text = told.value.message
    for place in (
        "planner.profiles.night.concurrency: Input should be less than or equal to 10000",
        "planner.profiles.night.tries: no such setting; did you mean planner.profiles.night.max_tries?",
        "planner.profiles.night.max_tries",
        "planner.profiles.Bad Name.[key]",
        "planner.profiles.Bad Name.parameters.noop",
        "worker_classes.a.environment",
    ):
        assert place in text, place


def test_a_setting_with_names_is_a_json_object_in_the_environment() -> None:
    profiles = load({"PENSTOCK_PLANNER__PROFILES": '{"night": {"max_tries": 9}}'}).planner.profiles
    assert profiles == {"night": ProfileSettings(max_tries=9)}
    assert load({"PENSTOCK_SCHEDULER__OWNER_WEIGHTS": '{"ada": 3}'}).scheduler.owner_weights == {"ada": 3.0}
    with pytest.raises(InvalidInput, match="PENSTOCK_PLANNER__PROFILES: a JSON object is needed"):
        load({"PENSTOCK_PLANNER__PROFILES": "night"})


def test_parameters_that_installed_processors_would_not_take_are_told_at_the_start_all_at_once() -> None:
    wrong = {"noop": {"sleep_seconds": -1, "sleeep": 2}, "document": {"granularity": "letter"}, "elsewhere": {"x": 1}}
    with pytest.raises(InvalidInput) as told:
        Profiles({"night": ProfileSettings(parameters=wrong)}).check(INSTALLED)
    assert told.value.code == "settings"
    lines = told.value.message.splitlines()[1:]
    assert len(lines) == 3, lines
    assert "planner.profiles.night.parameters.noop.sleep_seconds: Input should be greater" in lines[0]
    assert "parameters.noop.sleeep" in lines[1]
    assert "(its parameters: sleep_seconds, paid, repeatable)" in lines[1]
    assert "parameters.document.granularity" in lines[2]
    Profiles({"night": ProfileSettings(parameters={"noop": {"sleep_seconds": 1}})}).check(INSTALLED)


@pytest.mark.parametrize("text", ["nan", "-inf", "2026-01-01", "[1, {x = nan}]"])
def test_parameters_that_no_json_can_say_are_refused_at_the_start(tmp_path: Path, text: str) -> None:
    """Also of processors that are declared, and looked at later."""
    settings = tmp_path / "penstock.toml"
    settings.write_text(
        f"[planner.profiles.night.parameters.elsewhere]\nx = {text}\n[planner.profiles.day]\nconcurrency = nan\n"
    )
    with pytest.raises(InvalidInput) as told:
        load({}, config=settings)
    assert "planner.profiles.night.parameters.elsewhere: Value error, parameters are JSON" in told.value.message
    assert "planner.profiles.day.concurrency" in told.value.message


def test_a_class_of_workers_that_no_plan_may_name_is_told_at_the_start() -> None:
    profiles = Profiles({"night": ProfileSettings(worker_class="gpus"), "day": ProfileSettings(worker_class="gpu")})
    with pytest.raises(InvalidInput) as told:
        profiles.check(INSTALLED, WorkerClasses({"gpu": frozenset()}, only=True))
    assert told.value.message.splitlines()[1:] == [
        "  planner.profiles.night.worker_class: there is no worker class 'gpus'; there are: gpu"
    ]
    profiles.check(INSTALLED)


@pytest.mark.parametrize("kind", ["items", "documents"])
def test_all_profiles_of_a_request_are_what_each_would_make_of_it(kind: str) -> None:
    told = {"night": {"concurrency": 3}, "odd": {"parameters": {"noop": {"sleep": 1}, "document": {"lettter": 1}}}}
    profiles = Profiles({name: ProfileSettings.model_validate(one) for name, one in told.items()})
    unused: Any = None
    planning = Planning(store=unused, parquet=unused, staging=unused, draft_hours=1, clock=unused, profiles=profiles)
    row = SourceRow("s", DOCUMENTS if kind == "documents" else ITEMS, 1, 0, 0, "", 0, (0,), 0)
    stages = [] if kind == "documents" else [StageRequest("noop", {}, max_tries=7)]
    request = PlanRequest(source_id="s", stages=stages, granularity="", name="", draft=True, request_id="")
    found = planning.all_profiles(row, request)
    assert list(found) == ["fast", "standard", "thorough", "night"], "odd does not suit them"
    for name, settled in found.items():
        chosen = planning.settled(row, replace(request, profile=name))[1]
        assert [stage.settings for stage in settled] == [stage.settings for stage in chosen]
