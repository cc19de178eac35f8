"""What becomes of a change that cannot be delivered."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from fakes import Crash, Stage, insert, undecodable
from fakes.sink import key_of
from tidemark.backoff import backoff_s
from tidemark.model import Attempts, Status, StopReason
from tidemark.settle import HOPELESS_RUNS, one_more
from tidemark.sinks.function import FunctionSink

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidemark.model import Batch


def killing(*keys: object) -> Callable[[Batch], None]:
    """A `deliver` that takes its container with it at these documents."""

    def deliver(batch: Batch) -> None:
        if {key_of(change) for change in batch} & set(keys):
            raise Crash

    return deliver


def run_until_quiet(stage: Stage, *, at_most: int) -> int:
    """Run until a run comes to its end by itself; how many were killed before."""
    for killed in range(at_most):
        try:
            stage.run_after_lease()
        except Crash:
            continue
        return killed
    raise AssertionError(f"{at_most} runs were killed")


def test_a_sink_that_fails_for_a_while_gets_the_batch_again_within_the_run() -> None:
    """G1, G2: backoff and retry; nothing is set aside, nothing repeated."""
    stage = Stage(insert(1), insert(2))
    stage.sink.failures = 2

    summary = stage.run()

    assert stage.sink.attempts == [[1, 2], [1, 2], [1, 2]]
    assert (stage.sink.delivered, stage.letters.letters) == ([1, 2], [])
    assert (summary.stop_reason, summary.changes) == (StopReason.CAUGHT_UP, 2)
    assert stage.stored.attempts.count == 0


def test_backoff_is_bounded_by_the_budget() -> None:
    """G5: a wait that would outlast the budget ends the run instead, attempts stored."""
    stage = Stage(insert(1), max_attempts=50)
    stage.sink.failures = 100

    summary = stage.run(remaining_s=10)

    assert stage.clock.monotonic_s() < 10
    assert "DeliveryFailed" in (summary.error or "")
    assert stage.stored.attempts.count == len(stage.sink.attempts) > 1
    assert stage.index == 0


def test_backoff_grows_to_its_cap_with_full_jitter() -> None:
    longest = [backoff_s(attempts, lambda _low, high: high) for attempts in range(1, 9)]

    assert longest == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 20.0, 20.0]
    assert backoff_s(6, lambda low, _high: low) == 0


def test_attempts_are_counted_across_runs() -> None:
    """A poison change is recognised however often containers change."""
    stage = Stage(insert(1), max_attempts=4)
    stage.sink.poison = {1}
    counts: list[int] = []
    while not stage.letters.letters and len(counts) < 9:
        stage.run(remaining_s=2.5)
        counts.append(stage.stored.attempts.count)

    assert counts[:-1] == sorted(counts[:-1])
    assert len(counts) > 1
    assert [letter.attempts for letter in stage.letters.letters] == [4]
    assert len(stage.sink.attempts) == 4


def test_halving_finds_the_poison_and_delivers_every_other_change_in_order() -> None:
    """G1, G2: where the sink only says "failed"."""
    stage = Stage(*map(insert, range(10)), max_attempts=2)
    stage.sink.poison = {3, 7}

    summary = stage.run()

    assert stage.letters.keys == [3, 7]
    assert stage.sink.delivered == [0, 1, 2, 4, 5, 6, 8, 9]
    assert (summary.changes, summary.dead_letters) == (8, 2)
    assert stage.index == 10


@pytest.mark.parametrize("poison", range(9))
def test_halving_finds_the_poison_wherever_it_is(poison: int) -> None:
    stage = Stage(*map(insert, range(9)), max_attempts=1)
    stage.sink.poison = {poison}
    stage.run()

    assert stage.letters.keys == [poison]
    assert stage.sink.delivered == [key for key in range(9) if key != poison]
    assert len(stage.sink.attempts) <= 9


def test_a_named_change_is_set_aside_without_a_search() -> None:
    """What was before it counts as delivered: it never comes again."""
    stage = Stage(*map(insert, range(4)), max_attempts=2)
    stage.sink.named = {2}

    stage.run()

    assert stage.sink.attempts == [[0, 1, 2, 3], [2, 3], [3]]
    assert (stage.sink.delivered, stage.letters.keys) == ([0, 1, 3], [2])


def test_a_dead_letter_carries_what_redelivery_needs() -> None:
    stage = Stage(insert(1, total=5), max_attempts=3)
    stage.sink.poison = {1}
    stage.run()
    [letter] = stage.letters.letters

    assert letter.change == stage.source.changes[0]
    assert letter.change_id == stage.sink.batches[0].change_id(letter.change)
    assert (letter.error_type, letter.error_message) == ("SinkFailed", "poison")
    assert (letter.stream, letter.attempts, letter.fencing_token) == ("orders", 3, 1)
    assert letter.first_failed_at_ms < letter.last_failed_at_ms


def test_the_position_passes_a_poison_only_behind_its_dead_letter() -> None:
    """G1: where the queue fails the position stays, and the change comes again."""
    stage = Stage(insert(1), insert(2), max_attempts=1)
    stage.sink.named = {1}
    stage.letters.failures.append("refused")

    summary = stage.run()

    assert "DeadLetterFailed" in (summary.error or "")
    assert (stage.index, stage.letters.letters) == (0, [])
    stage.run()
    assert (stage.letters.keys, stage.sink.delivered, stage.index) == ([1], [2], 2)


def test_a_dead_letter_whose_answer_was_lost_is_stored_again_by_the_same_name() -> None:
    """G3: twice in the queue, recognisable."""
    stage = Stage(insert(1), max_attempts=1)
    stage.sink.named = {1}
    stage.letters.failures.append("answer_lost")
    stage.run()
    stage.run()

    assert stage.letters.keys == [1, 1]
    assert len({letter.change_id for letter in stage.letters.letters}) == 1


def test_halt_stops_before_the_poison_until_an_operator_resumes() -> None:
    stage = Stage(insert(1), insert(2), max_attempts=1, on_failure="halt")
    stage.sink.named = {2}

    summary = stage.run()

    assert "StreamHalted" in (summary.error or "")
    assert (stage.sink.delivered, stage.index) == ([1], 1)
    assert stage.store.requests[-1] == "halt"  # which released the lease, too
    stage.store.requests.clear()
    assert stage.run().stop_reason is StopReason.HALTED
    assert stage.store.requests == ["acquire"]

    stage.sink.named.clear()
    stage.store.set_status("orders", Status.RUNNING, reason=None)
    assert stage.run().stop_reason is StopReason.CAUGHT_UP
    assert (stage.sink.delivered, stage.index) == ([1, 2], 2)


def test_a_change_that_cannot_be_decoded_is_set_aside_at_once() -> None:
    """Its neighbours are delivered in order; the sink never sees it."""
    stage = Stage(insert(1), undecodable(2), insert(3))
    stage.run()

    assert (stage.sink.delivered, stage.letters.keys) == ([1, 3], [2])
    assert stage.letters.letters[0].error_type == "InvalidBSON"
    assert stage.index == 3


def test_a_killer_is_found_and_set_aside_and_all_others_are_delivered() -> None:
    """A change that ends its container raises nothing: unreleased runs tell."""
    stage = Stage(max_attempts=3)
    stage.run()
    stage.source.write(*map(insert, range(6)))
    stage.sink.on_deliver = killing(4)

    killed = run_until_quiet(stage, at_most=12)

    assert stage.letters.keys == [4]
    assert stage.letters.letters[0].error_type == "ContainerKilled"
    assert set(stage.sink.delivered) == {0, 1, 2, 3, 5}
    assert killed == 2 + 3  # two in company, then its attempts
    assert stage.index == 6


def test_a_wary_run_stores_each_attempt_before_it_delivers() -> None:
    """After two killed runs changes come one at a time."""
    stage = Stage()
    stage.run()
    stage.source.write(*map(insert, range(3)))
    stage.sink.on_deliver = killing(0)
    for _ in range(2):
        with pytest.raises(Crash):
            stage.run_after_lease()
    stage.sink.attempts.clear()
    stage.store.requests.clear()
    with pytest.raises(Crash):
        stage.run_after_lease()

    assert stage.sink.attempts == [[0]]
    assert stage.store.requests == ["acquire", "save"]
    assert (stage.stored.attempts.count, stage.stored.attempts.alone) == (1, True)
    assert stage.source.batch_sizes[-1] == 1
    assert "stream.wary" in stage.telemetry.names


def test_a_killer_is_found_however_far_behind_the_checkpoint_it_lies() -> None:
    """The interval lets many batches go unstored: after a killed run each of them is stored."""
    stage = Stage(*map(insert, range(40)), max_changes=1, max_attempts=2, checkpoint_interval_s=60)
    stage.sink.on_deliver = killing(30)

    killed = run_until_quiet(stage, at_most=12)

    assert stage.letters.keys == [30]
    assert killed <= 2 + 2 + 2 + 1
    assert stage.index == 40


def test_killers_in_a_row_are_each_found() -> None:
    """A second one, right behind the first, must not bring every run back to the beginning."""
    stage = Stage(*map(insert, range(4)), max_changes=2, max_attempts=1, checkpoint_interval_s=60)
    stage.sink.on_deliver = killing(0, 2)

    run_until_quiet(stage, at_most=15)

    assert stage.letters.keys == [0, 2]
    assert set(stage.sink.delivered) == {1, 3}


def test_a_wary_stretch_is_stored_up_to_its_end() -> None:
    stage = Stage(max_changes=2, checkpoint_interval_s=60)
    stage.run()
    stage.source.write(*map(insert, range(4)))
    stage.sink.on_deliver = killing(0)
    for _ in range(2):
        with pytest.raises(Crash):
            stage.run_after_lease()
    stage.sink.on_deliver = killing(2)

    with pytest.raises(Crash):
        stage.run_after_lease()

    assert (stage.sink.delivered, stage.index) == ([0, 1], 2)


def test_a_suspect_that_was_acquitted_is_stored_as_delivered() -> None:
    """Else the next killer's crash would leave it with an attempt that it never failed."""
    stage = Stage(max_changes=2, max_attempts=2, checkpoint_interval_s=60)
    stage.run()
    stage.source.write(*map(insert, range(5)))
    stage.sink.on_deliver = killing(1)
    for _ in range(3):
        with pytest.raises(Crash):
            stage.run_after_lease()
    assert (stage.index, stage.stored.unreleased_runs) == (1, 0)
    stage.sink.on_deliver = killing(3)

    with pytest.raises(Crash):
        stage.run_after_lease()

    assert (stage.index, stage.stored.attempts.count) == (3, 0)


def test_wariness_ends_after_as_many_changes_as_a_batch_holds() -> None:
    """The killer was in the first batch: an attempt more is stored for each of it, and no more."""
    stage = Stage(max_changes=2)
    stage.run()
    stage.source.write(*map(insert, range(4)))
    stage.sink.on_deliver = killing(0)
    for _ in range(2):
        with pytest.raises(Crash):
            stage.run_after_lease()
    stage.sink.on_deliver = killing()
    stage.store.requests.clear()
    stage.run_after_lease()

    attempts, checkpoints = 2, 4
    assert stage.store.requests == ["acquire", *["save"] * (attempts + checkpoints), "release"]
    assert stage.sink.delivered == [0, 1, 2, 3]


def test_a_crash_behind_a_dead_letter_does_not_set_its_change_aside_again() -> None:
    stage = Stage(insert(1), insert(2), max_attempts=1, checkpoint_interval_s=60)
    stage.sink.named = {1}
    stage.sink.on_deliver = lambda batch: killing(2)(batch) if len(batch) == 1 else None

    with pytest.raises(Crash):
        stage.run()

    assert (stage.letters.keys, stage.index) == ([1], 1)


def test_a_holder_that_outlived_its_lease_sets_nothing_aside() -> None:
    """G4: a dead letter is an effect, too."""
    stage = Stage(insert(1), max_attempts=1, lease_s=10)
    stage.sink.named = {1}
    stage.sink.on_deliver = lambda _: stage.clock.advance_s(9)

    summary = stage.run()

    assert (summary.stop_reason, stage.letters.letters) == (StopReason.LEASE_LOST, [])
    assert stage.index == 0


def test_a_hang_alone_is_one_attempt() -> None:
    """It was counted before it was tried: recording the hang adds none."""
    stage = Stage()
    stage.run()
    stage.source.write(insert(0))
    stage.sink.on_deliver = killing(0)
    for _ in range(2):
        with pytest.raises(Crash):
            stage.run_after_lease()
    stage.clock.advance_s(120)
    run = stage.made()

    def hang(_: Batch) -> None:
        run.record_hung()
        raise Crash

    stage.sink.on_deliver = hang
    with pytest.raises(Crash):
        run.execute()

    assert stage.stored.attempts.count == 1


@pytest.mark.parametrize("killed_runs", [0, 2])
def test_a_target_that_hangs_accuses_nobody_however_often(killed_runs: int) -> None:
    """G1: a request without an answer is no change's doing, though the process ends with it."""
    stage = Stage(insert(1), insert(2), max_attempts=1)
    for number in range(killed_runs):
        now_ms = stage.clock.time_ms()
        stage.store.acquire("orders", f"killed {number}", now_ms=now_ms, expires_at_ms=now_ms)
    stage.sink.may_hang_on_a_change = False
    run = stage.made()

    def hang(_: Batch) -> None:
        run.record_hung()
        raise Crash

    stage.sink.on_deliver = hang
    for _ in range(HOPELESS_RUNS + 1):
        with pytest.raises(Crash):
            run.execute()
        assert stage.stored.attempts.count == 0
        run = stage.made()
    stage.sink.on_deliver = lambda _: None

    run_until_quiet(stage, at_most=4)

    assert (stage.letters.keys, stage.sink.delivered) == ([], [1, 2])


def test_an_outage_between_two_kills_does_not_save_the_killer() -> None:
    """G1: that the target is down says nothing of a change, neither against it nor for it."""
    stage = Stage(max_attempts=3)
    stage.run()
    stage.source.write(insert(0), insert(1))
    kill, runs = killing(0), 0

    def kill_or_fail(batch: Batch) -> None:
        is_down = runs > 3 and runs % 2 == 0
        stage.sink.outages = int(is_down)
        if not is_down:
            kill(batch)

    stage.sink.on_deliver = kill_or_fail
    while not stage.letters.letters and runs < 40:
        runs += 1
        with suppress(Crash):
            stage.run_after_lease(remaining_s=20)

    assert stage.letters.keys == [0]


def test_attempts_in_company_convict_nobody_of_killing() -> None:
    """The head of a batch that hung or failed is not to blame for its neighbours."""
    stage = Stage(insert(1), insert(2), max_attempts=1)
    run = stage.made()

    def hang(_: Batch) -> None:
        run.record_hung()
        raise Crash

    stage.sink.on_deliver = hang
    with pytest.raises(Crash):
        run.execute()
    assert stage.stored.attempts.count == 1
    stage.sink.on_deliver = killing(2)

    run_until_quiet(stage, at_most=6)

    assert (stage.letters.keys, set(stage.sink.delivered)) == ([2], {1})


def test_the_first_attempt_alone_begins_the_count_anew() -> None:
    in_company = Attempts(4, "a", 10)

    assert one_more(in_company, "a", 20, alone=False) == Attempts(5, "a", 10)
    assert one_more(in_company, "a", 20, alone=True) == Attempts(1, "a", 20, alone=True)
    assert one_more(Attempts(1, "a", 20, alone=True), "a", 30, alone=True).count == 2
    assert one_more(in_company, "b", 20, alone=False) == Attempts(1, "b", 20)


def test_a_budget_spent_in_the_search_for_the_poison_leaves_the_rest_for_the_next_run() -> None:
    """G1: what was acquitted is checkpointed, and the search goes on where it was."""
    stage = Stage(*map(insert, range(8)), max_attempts=3)
    stage.sink.poison = {6}
    stage.sink.on_deliver = lambda _: stage.clock.advance_s(3.5)
    stage.run(remaining_s=20)

    assert stage.sink.delivered == list(range(stage.index))
    assert 0 < stage.index <= 6
    assert stage.stored.attempts.count == 3

    stage.sink.on_deliver = lambda _: None
    stage.sink.attempts.clear()
    stage.run_after_lease()

    assert len(stage.sink.attempts) <= 6  # without five more tries of all that is left
    assert (stage.letters.keys, stage.index) == ([6], 8)
    assert stage.sink.delivered == [0, 1, 2, 3, 4, 5, 7]


def test_a_poison_that_fails_slowly_is_found_over_several_runs() -> None:
    """G1: the search goes on where the last run's time ended, however slow each failure is."""
    stage = Stage(*map(insert, range(1000)), lease_s=200)
    stage.sink.poison = {0}
    stage.sink.on_deliver = lambda _: stage.clock.advance_s(15)

    for _ in range(5):
        stage.run_after_lease(remaining_s=120)

    assert stage.letters.keys == [0]
    assert stage.index > 0


def test_a_suspect_found_by_halving_gets_attempts_of_its_own() -> None:
    """None is set aside for what failed in company; the letter counts the change's own."""
    stage = Stage(*map(insert, range(4)), max_attempts=2)
    stage.sink.poison = {2, 3}

    def heal_after_one_failure(batch: Batch) -> None:
        if [key_of(change) for change in batch] == [2] and [2] in stage.sink.attempts[:-1]:
            stage.sink.poison.discard(2)

    stage.sink.on_deliver = heal_after_one_failure
    stage.run()

    assert stage.letters.keys == [3]
    assert stage.letters.letters[0].attempts == 2
    assert stage.sink.delivered == [0, 1, 2]


def test_who_raised_and_killed_nobody_is_tried_again_before_it_is_set_aside() -> None:
    """A letter that could not be stored leaves time to mend: the next run delivers."""
    stage = Stage(max_attempts=2)
    stage.run()
    stage.source.write(insert(0))
    stage.sink.on_deliver = killing(0)
    for _ in range(2):
        with pytest.raises(Crash):
            stage.run_after_lease()
    stage.sink.on_deliver = lambda _: None
    stage.sink.poison = {0}
    stage.letters.failures.append("refused")
    assert stage.run_after_lease().error == "DeadLetterFailed: refused by script"

    stage.sink.poison = set()
    assert stage.run().error is None
    assert (stage.letters.keys, stage.sink.delivered) == ([], [0])


def test_a_change_that_kills_while_it_is_read_halts_the_stream() -> None:
    """It cannot be set aside unread: an operator must act, and nothing is lost."""
    stage = Stage()
    stage.run()
    stage.source.write(insert(0))
    opened = stage.source.open

    def crash(*_: object, **__: object) -> None:
        raise Crash

    stage.source.open = crash  # type: ignore[assignment,method-assign]
    for _ in range(HOPELESS_RUNS):
        with pytest.raises(Crash):
            stage.run_after_lease()
    summary = stage.run_after_lease()

    assert summary.error
    assert "20 runs were killed before they delivered anything" in summary.error
    assert stage.run().stop_reason is StopReason.HALTED
    stage.source.open = opened  # type: ignore[method-assign]
    stage.store.set_status("orders", Status.RUNNING, reason=None)
    assert stage.run().changes == 1


def test_one_suspect_at_a_time_in_a_process() -> None:
    """Another stream's killer must not be counted against what this one had in flight."""
    stage = Stage()
    stage.run()
    stage.source.write(insert(0))
    stage.sink.on_deliver = killing(0)
    for _ in range(2):
        with pytest.raises(Crash):
            stage.run_after_lease()
    stage.sink.on_deliver = lambda _: stage.clock.advance_s(0)
    stage.sink.attempts.clear()

    with stage.one_suspect:
        summary = stage.run_after_lease(remaining_s=1)

    assert (stage.sink.attempts, stage.stored.attempts.count) == ([], 0)
    assert summary.error
    assert "another stream" in summary.error
    assert stage.run().changes == 1


def test_what_a_sink_takes_out_of_a_change_is_not_missed() -> None:
    """G1: position and dead letter are of the change as the server sent it."""
    stage = Stage(insert(0), insert(1), max_attempts=2)

    def plunder(batch: Any) -> None:
        for change in batch:
            change.pop("_id")
            document = change.pop("fullDocument")
            if document["_id"] == 1:
                raise ValueError

    stage.sink = FunctionSink(plunder)  # type: ignore[assignment]
    summary = stage.run()

    assert (summary.error, stage.index) == (None, 2)
    assert [letter.change["fullDocument"]["_id"] for letter in stage.letters.letters] == [1]
