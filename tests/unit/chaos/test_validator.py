"""The validator of chaos can fall: evidence of a run that went well is doctored, one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.gathering import executions
from tests.chaos.model import Asked, Closure, Evidence, Execution, Item, Kind, Lease, Pause, Rate, RunSeen
from tests.chaos.validator import RULES, judge

ITEMS = 160
ROOM = 4
PRICE = 5
SPAN = 1_000
RUN = "run-a"
T0 = 1_000_000


def start_of(seq: int) -> int:
    return T0 + seq // ROOM * SPAN


def well() -> Evidence:
    """Many items, four at a time, a second each; half of them of one domain. The third was lost with its worker."""
    leases, seen, found = [], [], {}
    for seq in range(ITEMS):
        start = start_of(seq)
        lane = "domain:a provider:p" if seq % 2 else ""
        attempt = 2 if seq == 2 else 1
        if attempt == 2:
            leases.append(Lease(seq, 1, start, start + 300, "worker_lost", lane))
            seen.append(Execution(start + 5, 90, RUN, seq, 1, end_ms=start + 290))
            start += 400
        end = start_of(seq) + SPAN
        leases.append(Lease(seq, attempt, start, end, "completed", lane))
        seen.append(Execution(start + 5, 91, RUN, seq, attempt, end_ms=end - 5, micros=PRICE, ended=True))
        found[seq] = Item(
            seq=seq,
            state="completed",
            attempt=attempt,
            tries=attempt - 1,
            end_ms=end,
            settle_number=seq + 1,
            cost_micros=PRICE * attempt,
            result_attempt=attempt,
        )
    run = RunSeen(
        number=1,
        run_id=RUN,
        kind=Kind("plain", ITEMS, price=PRICE),
        state="completed",
        items=found,
        leases=leases,
        told=list(range(ITEMS)),
        concurrency=[Asked(T0 - 100, T0 - 50, ROOM)],
        budgets=[Asked(T0 - 100, T0 - 50, PRICE * (ITEMS + 1))],
        spent=[(one.end_ms, one.cost_micros) for one in found.values()],
    )
    return Evidence(
        executions=seen,
        runs=[run],
        rooms={"domain:*": 2},
        rates=[Rate("provider:p", 2.0, 2.0)],
        disturbances=1,
    )


def with_run(evidence: Evidence, **changes: object) -> Evidence:
    return replace(evidence, runs=[replace(evidence.runs[0], **changes)])  # type: ignore[arg-type]


def with_item(evidence: Evidence, seq: int, **changes: object) -> Evidence:
    run = evidence.runs[0]
    return with_run(evidence, items={**run.items, seq: replace(run.items[seq], **changes)})  # type: ignore[arg-type]


def with_lease(evidence: Evidence, seq: int, **changes: object) -> Evidence:
    """Of its last attempt."""
    leases = list(evidence.runs[0].leases)
    (at,) = [i for i, one in enumerate(leases) if one.seq == seq and one.ended == "completed"]
    leases[at] = replace(leases[at], **changes)  # type: ignore[arg-type]
    return with_run(evidence, leases=leases)


def with_execution(evidence: Evidence, seq: int, attempt: int = 1, **changes: object) -> Evidence:
    found = list(evidence.executions)
    (at,) = [i for i, one in enumerate(found) if (one.seq, one.attempt) == (seq, attempt)]
    found[at] = replace(found[at], **changes)  # type: ignore[arg-type]
    return replace(evidence, executions=found)


def seen_again(evidence: Evidence, seq: int, attempt: int, after_ms: int, pid: int = 91) -> Evidence:
    begin = evidence.runs[0].items[seq].end_ms + after_ms
    return replace(evidence, executions=[*evidence.executions, Execution(begin, pid, RUN, seq, attempt)])


def an_item_without_a_row(evidence: Evidence) -> Evidence:
    run = evidence.runs[0]
    return with_run(evidence, items={seq: item for seq, item in run.items.items() if seq != 7})


def an_item_that_nobody_executed(evidence: Evidence) -> Evidence:
    return replace(evidence, executions=[one for one in evidence.executions if one.seq != 7])


def an_execution_that_did_not_end(evidence: Evidence) -> Evidence:
    return with_execution(evidence, 7, ended=False, micros=0)


def an_attempt_executed_twice(evidence: Evidence) -> Evidence:
    again = next(one for one in evidence.executions if one.seq == 7)
    return replace(evidence, executions=[*evidence.executions, replace(again, pid=92, micros=0)])


def a_settle_number_used_twice(evidence: Evidence) -> Evidence:
    return with_item(evidence, 7, settle_number=7)


def an_outcome_told_twice(evidence: Evidence) -> Evidence:
    return with_run(evidence, told=[*evidence.runs[0].told, 7])


def an_outcome_never_told(evidence: Evidence) -> Evidence:
    return with_run(evidence, told=[seq for seq in evidence.runs[0].told if seq != 7])


def two_attempts_recorded(evidence: Evidence) -> Evidence:
    first = next(one for one in evidence.runs[0].leases if one.seq == 2)
    return with_run(
        evidence,
        leases=[replace(one, ended="completed") if one is first else one for one in evidence.runs[0].leases],
    )


def granted_after_it_completed(evidence: Evidence) -> Evidence:
    return seen_again(evidence, 7, 1, 5_000)


def seen_later_by_a_process_in_good_health(evidence: Evidence) -> Evidence:
    evidence = replace(evidence, executions=[one for one in evidence.executions if (one.seq, one.attempt) != (2, 1)])
    return seen_again(evidence, 2, 1, 5_000)


def an_attempt_without_a_row(evidence: Evidence) -> Evidence:
    return seen_again(evidence, 7, 2, -500)


def failed_by_a_neighbour(evidence: Evidence) -> Evidence:
    evidence = with_item(evidence, 7, state="failed", error_kind="worker_lost", tries=5, result_attempt=0)
    return with_run(with_lease(evidence, 7, ended="failed"), state="completed_with_failures")


def one_left_behind(evidence: Evidence) -> Evidence:
    """Item 0 was due all the time, and the last one started before it."""
    late = start_of(ITEMS) + 120_000
    spread = [
        replace(one, start_ms=one.start_ms + 2_000 * one.seq, end_ms=(one.end_ms or 0) + 2_000 * one.seq)
        for one in evidence.runs[0].leases
    ]
    return with_lease(with_run(evidence, leases=spread), 0, start_ms=late, end_ms=late + SPAN)


def many_passed_over_at_once(evidence: Evidence) -> Evidence:
    """The first eight start after the second eight."""
    first = [replace(one, start_ms=one.start_ms + 4 * SPAN) for one in evidence.runs[0].leases if one.seq < 12]
    return with_run(evidence, leases=[*first, *(one for one in evidence.runs[0].leases if one.seq >= 12)])


def a_retry_that_waits_behind_all(evidence: Evidence) -> Evidence:
    """The lost one goes to the end."""
    late = start_of(ITEMS) + 120_000
    spread = [
        replace(one, start_ms=one.start_ms + 2_000 * one.seq, end_ms=(one.end_ms or 0) + 2_000 * one.seq)
        for one in evidence.runs[0].leases
    ]
    return with_lease(with_run(evidence, leases=spread), 2, start_ms=late, end_ms=late + SPAN)


def too_many_leases(evidence: Evidence) -> Evidence:
    return with_lease(evidence, 4, start_ms=start_of(4) - 200)


def too_many_executions(evidence: Evidence) -> Evidence:
    return with_execution(evidence, 4, begin_ms=start_of(4) - 200)


def a_domain_too_full(evidence: Evidence) -> Evidence:
    return with_lease(evidence, 4, lane="domain:a")


def a_rate_too_fast(evidence: Evidence) -> Evidence:
    return replace(evidence, rates=[Rate("provider:p", 0.5, 2.0)])


def a_start_of_a_closed_key(evidence: Evidence) -> Evidence:
    return replace(evidence, closures=[Closure("domain:a", T0 + 100, T0 + 40_000)])


def a_cap_that_was_passed(evidence: Evidence) -> Evidence:
    return with_run(evidence, budgets=[Asked(T0 - 100, T0 - 50, PRICE * ITEMS)])


def a_cap_passed_before_it_was_raised(evidence: Evidence) -> Evidence:
    raised = T0 + 9 * SPAN
    caps = [Asked(T0 - 100, T0 - 50, PRICE * 20), Asked(raised, raised + 20, PRICE * 100)]
    return with_run(evidence, budgets=caps)


def a_cost_forgotten(evidence: Evidence) -> Evidence:
    return with_item(evidence, 7, cost_micros=0)


def a_cost_counted_twice(evidence: Evidence) -> Evidence:
    return with_item(evidence, 7, cost_micros=2 * PRICE)


def a_lease_while_it_was_paused(evidence: Evidence) -> Evidence:
    return with_run(evidence, pauses=[Pause(T0 + 500, T0 + 1_200)])


def begun_long_after_it_was_paused(evidence: Evidence) -> Evidence:
    evidence = with_execution(evidence, ITEMS - 1, begin_ms=start_of(ITEMS - 1) + 5_000)
    return with_run(evidence, pauses=[Pause(start_of(ITEMS - 1) + 100, start_of(ITEMS - 1) + 9_000)])


def never_to_be_repeated(evidence: Evidence) -> Evidence:
    return with_run(evidence, kind=replace(evidence.runs[0].kind, once=True))


def rows_that_disagree(evidence: Evidence) -> Evidence:
    return replace(evidence, breaches=["counters 1/0: the stage says more"])


def skipped_by_nobody(evidence: Evidence) -> Evidence:
    return with_run(evidence, skipped=1)


DOCTORED: dict[Callable[[Evidence], Evidence], str] = {
    an_item_without_a_row: "nothing is lost",
    skipped_by_nobody: "nothing is lost",
    a_settle_number_used_twice: "nothing is recorded twice",
    an_outcome_told_twice: "nothing is recorded twice",
    an_outcome_never_told: "nothing is recorded twice",
    two_attempts_recorded: "nothing is recorded twice",
    an_item_that_nobody_executed: "what is recorded was executed",
    an_execution_that_did_not_end: "what is recorded was executed",
    an_attempt_executed_twice: "what is recorded was executed",
    never_to_be_repeated: "what is recorded was executed",
    granted_after_it_completed: "nothing is granted once it has ended",
    seen_later_by_a_process_in_good_health: "nothing is granted once it has ended",
    an_attempt_without_a_row: "nothing is granted once it has ended",
    failed_by_a_neighbour: "no item fails by a neighbour's death",
    one_left_behind: "order",
    many_passed_over_at_once: "order",
    a_retry_that_waits_behind_all: "order",
    too_many_leases: "concurrency",
    too_many_executions: "concurrency",
    a_domain_too_full: "limits",
    a_rate_too_fast: "rates",
    a_start_of_a_closed_key: "closed limits",
    a_cap_that_was_passed: "budgets",
    a_cap_passed_before_it_was_raised: "budgets",
    a_cost_forgotten: "money",
    a_cost_counted_twice: "money",
    a_lease_while_it_was_paused: "pauses",
    begun_long_after_it_was_paused: "pauses",
    rows_that_disagree: "rows agree",
}


def test_a_run_that_went_well_is_told_so() -> None:
    assert judge(well()) == []


@pytest.mark.parametrize("doctor", DOCTORED, ids=lambda doctor: doctor.__name__)
def test_what_is_wrong_is_told(doctor: Callable[[Evidence], Evidence]) -> None:
    told = {problem.rule for problem in judge(doctor(well()))}
    assert DOCTORED[doctor] in told, told


def test_every_rule_can_fall() -> None:
    assert set(DOCTORED.values()) == set(RULES)


def test_a_suspect_may_begin_after_the_pause_that_its_grant_came_before() -> None:
    evidence = with_run(well(), pauses=[Pause(start_of(ITEMS - 1) - 110, start_of(ITEMS - 1) + 9_000)])
    leases = evidence.runs[0].leases
    last = [lease for lease in leases if lease.start_ms == start_of(ITEMS - 1)]
    assert "pauses" in {problem.rule for problem in judge(evidence)}
    lost = [replace(one, attempt=one.attempt - 1, start_ms=T0, end_ms=T0 + 1, ended="worker_lost") for one in last]
    suspected = with_run(evidence, leases=[*leases, *lost])
    assert "pauses" not in {problem.rule for problem in judge(suspected)}


def test_an_older_attempt_seen_late_is_excused_for_a_process_that_was_stopped() -> None:
    evidence = seen_later_by_a_process_in_good_health(well())
    assert judge(replace(evidence, suspended=frozenset({91}))) == []


def test_a_bound_that_an_operator_lowers_or_raises_counts_from_its_acknowledgement() -> None:
    evidence = too_many_leases(well())
    raised = [Asked(T0 - 100, T0 - 50, ROOM), Asked(start_of(4) - 400, start_of(4) - 300, ROOM + 1)]
    assert judge(with_run(evidence, concurrency=raised)) == []
    lowered = [Asked(T0 - 100, T0 - 50, ROOM + 1), Asked(T0 + 100, T0 + 200, ROOM)]
    assert [problem.rule for problem in judge(with_run(evidence, concurrency=lowered))] == ["concurrency"]


def test_the_witnesses_logs_are_read_with_deaths_and_repetitions(tmp_path: Path) -> None:
    (tmp_path / "mended").touch()
    lines = [
        "begins 1000000000 run-a 0 7 1 work 0",
        "ends 2000000000 run-a 0 7 1 work 5",
        "begins 2500000000 run-a 0 8 1 work 0",
        "begins 2600000000 run-a 0 8 1 work 0",
        "begins 3000000000 run-a 0 9 2 heal 0",
        "dies 3500000000 run-a 0 9 2 heal 0",
    ]
    (tmp_path / "41").write_text("\n".join(lines) + "\n")
    seen = sorted(executions(tmp_path, {41: 4000.0}), key=lambda one: one.begin_ms)
    assert seen == [
        Execution(1000.0, 41, "run-a", 7, 1, "work", 2000.0, 5, ended=True),
        Execution(2500.0, 41, "run-a", 8, 1, "work", None, 0, ended=False),
        Execution(2600.0, 41, "run-a", 8, 1, "work", 4000.0, 0, ended=False),
        Execution(3000.0, 41, "run-a", 9, 2, "heal", 3500.0, 0, ended=False),
    ]
