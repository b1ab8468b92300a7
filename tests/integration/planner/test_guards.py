"""What speaks against a plan: before it is made, when it is shown, and when it is started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from penstock.runtime.channel import calling
from penstock.runtime.errors import Conflict, InvalidInput
from penstock.runtime.settings import Settings
from penstock.v1 import planner_pb2, rules_pb2
from penstock.v1 import sources_pb2 as sp
from planner.worker_classes import WorkerClasses
from tests.integration.planner.conftest import Planner
from tests.integration.planner.planned import Plans

ITEMS = b'{"key": "a"}\n'
Stage = planner_pb2.StageSpec
PROBE = """
name = "probe"
version = "1"
description = "Asks a provider."
kind = "command"
argv = ["/bin/true"]
"""
NEEDS = PROBE + '[environment]\nneeds = ["ACME_KEY", "ZEBRA_KEY"]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "processors"
    found.mkdir()
    return found


@pytest.fixture
def classes() -> dict[str, object]:
    """The setting worker_classes; tests give their own."""
    return {}


@pytest.fixture
def disabled() -> list[str]:
    return []


@pytest.fixture
def more_settings(folder: Path, classes: dict[str, object], disabled: list[str]) -> dict[str, object]:
    return {"processors": folder, "worker_classes": classes, "planner": {"disabled_processors": disabled}}


async def plan(planner: Planner, *stages: planner_pb2.StageSpec) -> planner_pb2.Plan:
    source = await planner.items(ITEMS)
    return await planner.plan(source.source_id, stages=stages or [Stage(processor="probe")], validate_only=True)


async def start(planner: Planner, made: planner_pb2.Plan, *, confirm: bool = False) -> planner_pb2.Plan:
    with calling():
        return await planner.stub.KeepPlan(planner_pb2.KeepPlanRequest(plan_id=made.plan_id, confirm=confirm))


async def shown(planner: Planner, made: planner_pb2.Plan) -> planner_pb2.Plan:
    with calling():
        return await planner.stub.GetPlan(planner_pb2.GetPlanRequest(plan_id=made.plan_id))


def told(made: planner_pb2.Plan) -> dict[str, str]:
    return {one.code: one.message for one in made.warnings}


@pytest.mark.parametrize(
    "classes", [{"default": {"environment": ["ZEBRA_KEY"]}, "rich": {"environment": ["ACME_KEY"]}}]
)
async def test_names_that_the_workers_do_not_have_are_named_and_the_start_asks(planner: Planner, folder: Path) -> None:
    (folder / "probe.toml").write_text(NEEDS)
    made = await plan(planner)
    assert told(made) == {
        "missing_environment": "stage 0: probe needs ACME_KEY, which workers of class 'default' do not have: its items "
        "would fail"
    }
    assert made.needs_confirm
    with pytest.raises(Conflict, match="asks first: stage 0: probe needs ACME_KEY") as refused:
        await start(planner, made)
    assert refused.value.code == "confirm_required"
    assert not (await start(planner, made, confirm=True)).draft, "a worker may be started with it before it is needed"
    rich = await plan(planner, Stage(processor="probe", worker_class="rich"))
    assert "needs ZEBRA_KEY, which workers of class 'rich'" in told(rich)["missing_environment"]


@pytest.mark.parametrize("classes", [{"default": {}}, {}], ids=["none", "unknown"])
async def test_healers_are_looked_at_and_of_workers_that_are_not_known_nothing_is_said(
    planner: Planner, folder: Path, classes: dict[str, object]
) -> None:
    (folder / "probe.toml").write_text(NEEDS)
    rules = rules_pb2.StageRules(heal=rules_pb2.HealRules(attempts=1, processor="probe"))
    made = await plan(planner, Stage(processor="noop", rules=rules))
    if classes:
        assert told(made)["missing_environment"].startswith("heal of stage 0: probe needs ACME_KEY, ZEBRA_KEY,")
    else:
        assert (told(made), made.needs_confirm) == ({}, False)


@pytest.mark.parametrize("classes", [{"default": {"environment": ["ACME_KEY"]}, "big": {}}])
async def test_a_class_that_is_none_is_refused_with_the_list(planner: Planner) -> None:
    with pytest.raises(InvalidInput, match="stage 0: there is no worker class 'huge'; there are: big, default") as no:
        await plan(planner, Stage(processor="noop", worker_class="huge", concurrency=-1))
    assert no.value.metadata["codes"] == "bad_stages,unknown_worker_class", "with all else"


def test_local_workers_have_the_names_of_the_program_that_starts_them() -> None:
    local = Settings.model_validate({"scheduler": {"backend": "process"}})
    found = WorkerClasses.of(local, ["HOME", "ACME_KEY"])
    assert found.lacks("default", ["ACME_KEY", "ZEBRA_KEY"]) == ["ZEBRA_KEY"]
    assert not found.problem("another"), "workers of any class may be started by hand"
    assert not WorkerClasses.of(Settings(), ["ACME_KEY"]).lacks("default", ["ZEBRA_KEY"]), "nobody knows"
    told = Settings.model_validate({**local.model_dump(), "worker_classes": {"default": {"environment": ["Z"]}}})
    assert WorkerClasses.of(told, ["ACME_KEY"]).lacks("default", ["ACME_KEY", "Z"]) == ["ACME_KEY"], (
        "what is set goes first"
    )


@pytest.mark.parametrize("disabled", [["collection", "gone"]])
async def test_a_disabled_processor_is_refused_with_the_list_of_those_that_are_not(planner: Planner) -> None:
    source = await planner.files([("a.txt", b"text")])
    with pytest.raises(InvalidInput) as refused:
        await planner.plan(source.source_id)
    assert refused.value.code == "processor_disabled"
    said = "stage 1: processor 'collection' is disabled by the server's settings; there are: "
    assert refused.value.message.startswith(said)
    assert "collection," not in refused.value.message.partition("there are: ")[2]
    with pytest.raises(InvalidInput, match="no processor named 'zz'; there are: ") as unknown:
        await plan(planner, Stage(processor="zz"))
    assert "collection" not in unknown.value.message
    assert unknown.value.code == "processor_not_found"
    listed = (await planner.stub.ListProcessors(planner_pb2.ListProcessorsRequest())).processors
    assert {one.name: one.disabled for one in listed}["collection"]
    assert not {one.name: one.disabled for one in listed}["noop"]
    one = await planner.stub.GetProcessor(planner_pb2.GetProcessorRequest(name="collection"))
    assert (one.disabled, one.version) == (True, "1")


def become_a_file(folder: Path) -> None:
    folder.rmdir()
    folder.write_text("a file")


def become_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


async def test_between_preview_and_start_a_declaration_or_its_folder_becomes_something_else(
    planner: Planner, folder: Path, tmp_path: Path
) -> None:
    file, kept = folder / "probe.toml", tmp_path / "kept"
    file.write_text(PROBE)
    made = await plan(planner)

    async def refused(code: str, said: str) -> None:
        assert said in told(await shown(planner, made))[code]
        with pytest.raises(Conflict) as why:
            await start(planner, made, confirm=True)
        assert why.value.code == code
        assert said in why.value.message

    file.rename(kept)
    await refused("processor_not_found", f"{file} would declare it")
    file.mkdir()
    await refused("bad_processor", f"declared in {file}: it can't be read: Is a directory")
    file.rmdir()
    file.symlink_to(tmp_path / "nowhere")
    await refused("bad_processor", f"it is a link to {tmp_path}/nowhere, which is not there")
    file.unlink()
    file.symlink_to(kept)
    assert told(await shown(planner, made)) == {}, "the same bytes are the same version, wherever they lie"
    file.unlink()
    file.write_text(PROBE[: len(PROBE) // 2])
    await refused("bad_processor", f"declared in {file}: line ")
    file.unlink()
    become_a_file(folder)
    await refused("processor_not_found", f"the folder of processors, {folder}, can't be read: Not a directory")
    become_a_folder(folder)
    os.replace(kept, file)
    assert not (await start(planner, made)).draft


async def test_a_plan_of_a_processor_that_is_gone_is_shown_with_a_warning_and_never_started(
    planner: Planner, folder: Path
) -> None:
    (folder / "probe.toml").write_text(PROBE)
    made = await plan(planner)
    assert (told(made), made.needs_confirm) == ({}, False)
    (folder / "probe.toml").unlink()
    assert (
        "stage 0 can't run: no processor named 'probe'; there are: "
        in told(await shown(planner, made))["processor_not_found"]
    )
    for confirm in (False, True):
        with pytest.raises(Conflict, match="can't start: no processor named 'probe'") as refused:
            await start(planner, made, confirm=confirm)
        assert refused.value.code == "processor_not_found"
    (folder / "probe.toml").write_text(PROBE.replace("argv", "argvv"))
    with pytest.raises(Conflict) as refused:
        await start(planner, made, confirm=True)
    assert refused.value.code == "bad_processor"
    (folder / "probe.toml").write_text(PROBE)
    assert told(await shown(planner, made)) == {}, "nothing of it is kept"
    assert not (await start(planner, made)).draft


async def test_a_processor_that_has_changed_since_asks_before_it_starts(planner: Planner, folder: Path) -> None:
    (folder / "probe.toml").write_text(PROBE)
    made = await plan(planner)
    (folder / "probe.toml").write_text(PROBE.replace("a provider", "another provider"))
    changed = await shown(planner, made)
    assert (
        f"was planned with probe {made.stages[0].processor_version}, and now it is 1+"
        in told(changed)["processor_changed"]
    )
    with pytest.raises(Conflict) as refused:
        await start(planner, made)
    assert refused.value.code == "confirm_required"
    assert not (await start(planner, made, confirm=True)).draft


async def test_what_is_wrong_with_stages_selection_and_order_is_told_at_once(plans: Plans) -> None:
    with pytest.raises(InvalidInput) as refused:
        await plans.plan(
            sp.Selection(filter="prize < 5", state="open", limit=-1),
            stages=[Stage(processor="nope", max_tries=101, max_run_seconds=-3, worker_class="x" * 9)],
            ordering=sp.Ordering(sort=["prize"]),
            profile="quick",
        )
    assert refused.value.code == "unknown_profile"
    assert refused.value.metadata["codes"].split(",") == [
        *("unknown_profile", "bad_stages", "processor_not_found", "bad_selection", "no_such_column", "bad_filter"),
        "bad_order",
    ]
    for part in (
        "no profile 'quick'",
        "max_tries is 101",
        "max_run_seconds is -3",
        "limit is -1",
        "'prize' to sort by",
    ):
        assert part in refused.value.message, part


async def test_an_empty_selection_says_what_was_looked_at_and_why_nothing_is_left(plans: Plans) -> None:
    with pytest.raises(InvalidInput) as refused:
        await plans.plan(sp.Selection(filter="price > 1000"), ordering=sp.Ordering(pinned=["Dell", "Razer"]))
    assert refused.value.code == "selection_empty"
    assert refused.value.message == (
        "the selection matches nothing: of 11 rows it includes none (filter: price > 1000); the source has no group "
        "'Dell'; they place nothing"
    )
    with pytest.raises(InvalidInput) as refused:
        await plans.plan(sp.Selection(filter="brand = Acer", exclude_keys=["acer-1"], exclude_filter="price > 10"))
    assert refused.value.message == (
        "the selection matches nothing: of 11 rows it includes 2 (filter: brand = Acer), and all of that is left out: "
        "1 excluded by id; 1 excluded by filter"
    )
    everything = await plans.plan()
    await plans.run(everything)
    with pytest.raises(InvalidInput, match=r"it includes 11 \(all\), and all of that is left out: 11 done already"):
        await plans.plan()
    with pytest.raises(InvalidInput, match=r"it includes none \(no result of noop\)"):
        await plans.plan(sp.Selection(missing="noop"))


async def test_an_empty_selection_keeps_what_should_be_known_of_it(plans: Plans) -> None:
    await plans.run(await plans.plan(), confidence=None)
    with pytest.raises(InvalidInput) as refused:
        await plans.plan(sp.Selection(reprocess=sp.Selection.Reprocess(processor="noop", threshold=0.5)))
    assert refused.value.code == "selection_empty"
    assert refused.value.message.endswith("; 11 results of noop have no confidence, so they are below no threshold")


async def test_what_was_asked_for_is_in_the_id_also_where_another_finds_the_same(plans: Plans) -> None:
    await plans.run(await plans.plan(), confidence=0.3)
    made = [
        await plans.plan(sp.Selection(reprocess=sp.Selection.Reprocess(processor="noop", threshold=threshold)))
        for threshold in (0.5, 0.6, 0.5)
    ]
    assert [round(one.selection.reprocess.threshold, 6) for one in made] == [0.5, 0.6, 0.5]
    assert made[0].plan_id == made[2].plan_id != made[1].plan_id
