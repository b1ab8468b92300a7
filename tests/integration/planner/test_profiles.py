"""Profiles in plans: by name, filled into the stages, and what is refused."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from penstock.runtime.errors import InvalidInput
from penstock.runtime.settings import PlannerSection, Settings
from penstock.v1 import planner_pb2
from planner.__main__ import build
from tests.integration.planner.conftest import FakeClock, Planner

ITEMS = b'{"key": "a"}\n{"key": "b"}\n'
NIGHT = {"concurrency": 3, "max_run_seconds": 30, "parameters": {"noop": {"sleep_seconds": 0.5, "repeatable": False}}}
SETTINGS = {"planner": {"profiles": {"night": NIGHT}}}
Stage = planner_pb2.StageSpec


async def planned(planner: Planner, profile: str = "", **stage: object) -> planner_pb2.Plan:
    source = await planner.items(ITEMS)
    return await planner.plan(
        source.source_id,
        stages=[Stage(processor="noop", **stage)],  # type: ignore[arg-type]
        profile=profile,
        validate_only=True,
    )


def numbers(plan: planner_pb2.Plan) -> tuple[int, int, int]:
    stage = plan.stages[0]
    return stage.concurrency, stage.max_tries, stage.max_run_seconds


async def test_a_profile_fills_in_the_stages_and_its_name_stands_in_the_plan(planner: Planner) -> None:
    fast, thorough = await planned(planner, "fast"), await planned(planner, "thorough")
    assert (fast.profile, thorough.profile) == ("fast", "thorough")
    assert (numbers(fast), numbers(thorough)) == ((256, 2, 600), (16, 10, 600))
    own = await planned(planner, "fast", concurrency=5)
    assert numbers(own) == (5, 2, 600), "what the stage says stays"
    assert len({fast.plan_id, thorough.plan_id, own.plan_id}) == 3


async def test_the_filled_in_stages_are_what_the_id_hashes_and_the_name_is_not(planner: Planner) -> None:
    plain = await planned(planner)
    standard = await planned(planner, "standard")
    assert (plain.plan_id, plain.profile) == (standard.plan_id, "")
    assert standard.profile == "standard", "who asked by a name is answered by it"
    by_hand = await planned(planner, concurrency=256, max_tries=2)
    assert by_hand.plan_id == (await planned(planner, "fast")).plan_id


@pytest.mark.parametrize("more_settings", [SETTINGS], ids=["night"])
async def test_parameters_of_a_profile_go_to_the_processor_that_they_name(planner: Planner) -> None:
    plan = await planned(planner, "night", parameters=b'{"sleep_seconds": 0.1}')
    assert numbers(plan) == (3, 5, 30)
    assert orjson.loads(plan.stages[0].parameters) == {"sleep_seconds": 0.1, "repeatable": False}
    assert plan.stages[0].repeatable is False, "as the processor reads them"


@pytest.mark.parametrize("more_settings", [SETTINGS], ids=["night"])
async def test_a_collection_of_documents_keeps_the_time_of_its_one_long_item(planner: Planner) -> None:
    source = await planner.files([("a.txt", b"text")])
    plan = await planner.plan(source.source_id, profile="night")
    assert [(stage.concurrency, stage.max_run_seconds) for stage in plan.stages] == [(3, 30), (1, 3_600)]
    assert [(stage.concurrency, stage.max_tries) for stage in (await planner.plan(source.source_id)).stages] == [
        *((256, 5), (1, 5)),
    ]


async def test_a_profile_that_is_none_is_refused_with_all_else_that_is_wrong(planner: Planner) -> None:
    with pytest.raises(InvalidInput) as told:
        await planned(planner, "quick", concurrency=-1, max_tries=101, parameters=b'{"sleep": 1}')
    assert told.value.code == "unknown_profile"
    assert told.value.metadata["codes"] == "unknown_profile,bad_stages,bad_parameters"
    for part in (
        "there is no profile 'quick'; there are: fast, standard, thorough",
        "concurrency is -1",
        "max_tries is 101",
        "sleep:",
    ):
        assert part in told.value.message, part


@pytest.mark.parametrize("more_settings", [SETTINGS], ids=["night"])
async def test_profiles_are_listed_with_what_they_set(planner: Planner) -> None:
    answer = await planner.stub.ListProfiles(planner_pb2.ListProfilesRequest())
    assert [one.name for one in answer.profiles] == ["fast", "standard", "thorough", "night"]
    fast, standard, _, night = answer.profiles
    assert standard == planner_pb2.Profile(name="standard"), "it sets nothing"
    assert (fast.concurrency, fast.max_tries, fast.parameters) == (256, 2, b"")
    assert orjson.loads(night.parameters) == NIGHT["parameters"]


async def test_a_planner_with_a_profile_that_a_processor_would_not_take_does_not_start(
    tmp_path: Path, database_url: str
) -> None:
    profiles = {"night": {"parameters": {"noop": {"sleep": 1}}}, "day": {"parameters": {"document": {"x": 1}}}}
    section = PlannerSection.model_validate({"database_url": database_url, "profiles": profiles})
    with pytest.raises(InvalidInput) as told:
        await build(Settings(blobs=tmp_path / "blobs", planner=section), FakeClock())
    assert told.value.code == "settings"
    assert "planner.profiles.night.parameters.noop.sleep" in told.value.message
    assert "planner.profiles.day.parameters.document.x" in told.value.message
