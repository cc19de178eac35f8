"""One run of one stream: the order of its effects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fakes import (
    CRASH,
    HIDDEN_INVALIDATE,
    IDLE,
    INVALIDATE,
    UNAVAILABLE,
    Crash,
    Stage,
    StoreFault,
    Traits,
    insert,
    split,
    stall,
)
from tidemark.errors import SourceRefused, SourceUnavailable, SourceUnreachable
from tidemark.lag import UNREADABLE
from tidemark.model import Position, Status, StopReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from tidemark.model import Batch, Read
    from tidemark.ports import Reader, ReadLimits


def test_an_idle_run_makes_two_requests_to_the_store() -> None:
    """One takes the lease and reads, one stores and releases."""
    stage = Stage(insert(1))
    stage.run()
    stage.store.requests.clear()

    summary = stage.run()

    assert stage.store.requests == ["acquire", "release"]
    assert (summary.stop_reason, summary.changes) == (StopReason.CAUGHT_UP, 0)


def test_the_first_position_is_stored_before_the_stream_is_read() -> None:
    """G1: what comes between a crash and the next run would be nobody's otherwise."""
    stage = Stage(insert("before"), start_at="now")
    stage.source.write(CRASH)  # behind now: the run meets it at its first read
    stage.source.now = at(stage, 1)  # type: ignore[method-assign]

    with pytest.raises(Crash):
        stage.run()
    assert (stage.store.requests, stage.index) == (["acquire", "save"], 1)

    stage.source.write(insert("while nobody read"))
    stage.source.now = at(stage, stage.source.end)  # type: ignore[method-assign]
    stage.run_after_lease()
    assert stage.sink.delivered == ["while nobody read"]


def test_a_run_without_time_to_read_stores_its_first_position_all_the_same() -> None:
    """G1: what is written after the first run is promised, however short that run was."""
    stage = Stage(insert("before"), start_at="now")

    assert stage.run(remaining_s=0.2).stop_reason is StopReason.BUDGET
    stage.source.write(insert("after"))
    stage.run()

    assert stage.sink.delivered == ["after"]


def at(stage: Stage, index: int) -> Callable[..., Position]:
    """A server whose now is behind so many entries."""
    return lambda **_: Position(resume_token=stage.source.token_at(index))


def test_a_quiet_run_stores_the_empty_answers_token() -> None:
    """G6: the server scanned far beyond the last change; the position follows it."""
    stage = Stage(insert(1))
    stage.run()
    stage.source.write(IDLE, IDLE)

    stage.run()

    assert stage.index == stage.source.end == 3


def test_an_empty_answer_between_changes_ends_no_drain() -> None:
    """An empty read means idle, not caught up."""
    stage = Stage(insert(1), IDLE, insert(2), IDLE, insert(3))

    summary = stage.run()

    assert stage.sink.delivered == [1, 2, 3]
    assert summary.stop_reason is StopReason.CAUGHT_UP


def test_an_empty_answers_token_never_passes_an_undelivered_change() -> None:
    """G1: a read that waited for more ends empty, its token already behind what it brings."""
    stage = Stage(insert(1), insert(2), max_age_s=5, max_attempts=50)
    stage.sink.poison = {1}

    stage.run(remaining_s=12)

    assert stage.index == 0


def test_a_run_goes_on_at_its_position() -> None:
    stage = Stage(insert(1), insert(2))
    stage.run()
    stage.source.write(insert(3))
    stage.run()

    assert stage.sink.delivered == [1, 2, 3]
    assert stage.source.opened[-1].resume_token is not None


def test_a_batch_holds_what_its_limits_say() -> None:
    stage = Stage(*map(insert, range(5)), max_changes=2)
    stage.run()

    assert stage.sink.attempts == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("remaining_s", [4, 20, 120])
@pytest.mark.parametrize("max_age_s", [0, 5, 30, 300])
def test_a_batch_that_waits_for_more_is_never_cut_off(max_age_s: float, remaining_s: float) -> None:
    """A read may last a batch's age with an await at either end, on a healthy server."""
    stage = Stage(insert(1), insert(2), mode="linger", max_age_s=max_age_s)
    reads = reads_of(stage)
    stage.run(remaining_s=remaining_s)

    await_s = stage.settings.max_await_ms / 1000
    waiting = [(limits, timeout_s) for limits, timeout_s in reads if limits.max_age_s]
    assert bool(waiting) is (max_age_s > 0)
    assert all(limits.max_age_s <= max_age_s for limits, _ in reads)
    assert all(timeout_s > limits.max_age_s + 2 * await_s for limits, timeout_s in waiting)
    assert all(timeout_s > await_s for _, timeout_s in reads)


def reads_of(stage: Stage) -> list[tuple[ReadLimits, float]]:
    """The limits and the timeout of every read from now on."""
    reads: list[tuple[ReadLimits, float]] = []
    opened = stage.source.open

    def watched(*stream: Any, **options: Any) -> Reader:
        reader = opened(*stream, **options)
        read = reader.read

        def remembered(limits: ReadLimits, *, timeout_s: float) -> Read:
            reads.append((limits, timeout_s))
            return read(limits, timeout_s=timeout_s)

        reader.read = remembered  # type: ignore[method-assign]
        return reader

    stage.source.open = watched  # type: ignore[method-assign,assignment]
    return reads


def test_max_bytes_bounds_a_batch_and_a_large_change_goes_alone() -> None:
    stage = Stage(insert(1, t="x" * 500), insert(2), insert(3), max_bytes=600)
    stage.run()

    assert stage.sink.attempts == [[1], [2, 3]]


def test_a_split_event_comes_whole_and_its_position_is_behind_the_last_fragment() -> None:
    """Never a checkpoint between fragments."""
    stage = Stage(split(1, of=3), split(2, of=2), max_changes=1)
    stage.run()

    assert stage.sink.attempts == [[1], [2]]
    assert all("splitEvent" not in change for batch in stage.sink.batches for change in batch)
    assert stage.index == 5


def test_checkpoints_are_no_more_frequent_than_the_interval() -> None:
    """Twenty batches in no time are one checkpoint: the release."""
    stage = Stage(*map(insert, range(20)), max_changes=1, checkpoint_interval_s=60)
    stage.run()

    assert stage.store.requests == ["acquire", "save", "release"]  # save: the first position


def test_an_interval_of_none_stores_each_batch() -> None:
    stage = Stage(*map(insert, range(3)), max_changes=1, checkpoint_interval_s=0)
    stage.run()

    assert stage.store.requests == ["acquire", *["save"] * (1 + 3), "release"]


def test_a_lingering_run_writes_quiet_tokens_with_its_renewals_only() -> None:
    """Not once a second: 200 s of silence under a lease of 30 s."""
    stage = Stage(insert(1), mode="linger", lease_s=30)
    summary = stage.run(remaining_s=200)

    assert summary.stop_reason is StopReason.BUDGET
    assert 200 / 30 <= len(stage.store.requests) <= 200 / 15 + 4
    assert stage.index == 1


def test_a_linger_ends_inside_its_budget() -> None:
    """G5: with time left to close and to release."""
    stage = Stage(mode="linger")
    began_s = stage.clock.monotonic_s()
    summary = stage.run(remaining_s=30)

    assert summary.stop_reason is StopReason.BUDGET
    assert stage.clock.monotonic_s() - began_s <= 30 - 5
    assert stage.store.requests[-1] == "release"
    assert stage.source.open_readers == 0


def test_a_lease_lost_in_mid_run_ends_deliveries_and_writes() -> None:
    """G4: the former holder notices by its next write, and writes nothing more."""
    stage = Stage(*map(insert, range(4)), max_changes=1, checkpoint_interval_s=0)

    def another_takes_it(_: Batch) -> None:
        if len(stage.sink.attempts) == 2:
            stage.store.items["orders"]["fencing_token"] = {"N": "9"}

    stage.sink.on_deliver = another_takes_it
    summary = stage.run()

    assert (summary.stop_reason, summary.error) == (StopReason.LEASE_LOST, None)
    assert stage.sink.delivered == [0, 1]
    assert (stage.index, stage.store.requests[-1]) == (1, "save")
    assert "lease.lost" in stage.telemetry.names


def test_a_holder_that_outlived_its_lease_stops_by_itself() -> None:
    """G4: without a request to the store: its own clock tells it."""
    stage = Stage(stall(9), insert(1), lease_s=10)  # 9 s: beyond 10 s less the skew

    summary = stage.run()

    assert summary.stop_reason is StopReason.LEASE_LOST
    assert (stage.sink.attempts, stage.index) == ([], 0)
    assert stage.store.requests == ["acquire", "save"]


def test_a_late_holder_whose_lease_nobody_took_goes_on() -> None:
    """G4: a slow delivery's checkpoint is fenced by the token alone, and renews the lease."""
    stage = Stage(insert(1), insert(2), max_changes=1, lease_s=10)
    stage.sink.on_deliver = lambda _: stage.clock.advance_s(9)

    summary = stage.run()

    assert (summary.stop_reason, stage.sink.delivered) == (StopReason.CAUGHT_UP, [1, 2])


def test_the_loser_of_the_lease_makes_one_request_and_tells_who_holds_it() -> None:
    stage = Stage(insert(1))
    run = stage.made()
    inner: list[StopReason] = []
    stage.sink.on_deliver = lambda _: inner.append(stage.made().execute().stop_reason)

    run.execute()

    assert inner == [StopReason.LEASE_HELD]
    assert stage.store.requests.count("acquire") == 2
    [fields] = [fields for name, fields in stage.telemetry.events if name == "lease.held"]
    assert fields["lease_owner"]
    assert fields["lease_expires_at_ms"] > 0


def test_a_paused_stream_is_left_alone() -> None:
    stage = Stage(insert(1))
    stage.run()
    stage.store.set_status("orders", Status.PAUSED, reason="maintenance")
    stage.store.requests.clear()

    assert stage.run().stop_reason is StopReason.PAUSED
    assert stage.store.requests == ["acquire"]


@pytest.mark.parametrize("request_name", ["acquire", "save", "release"])
@pytest.mark.parametrize("fault", [StoreFault.REFUSED, StoreFault.ANSWER_LOST])
def test_a_store_that_fails_costs_a_run_and_no_change(request_name: str, fault: StoreFault) -> None:
    """G1, G3: at any single request, applied or not."""
    stage = Stage(insert(1), insert(2), insert(3), max_changes=1, checkpoint_interval_s=0)
    stage.store.inject(fault, on=request_name)

    failed = stage.run()
    stage.run_after_lease()

    assert "StoreUnavailable" in (failed.error or "")
    assert list(dict.fromkeys(stage.sink.delivered)) == [1, 2, 3]
    assert len(stage.sink.delivered) <= 3 + 1
    assert stage.index == 3


@pytest.mark.parametrize("request_name", ["acquire", "save", "release"])
def test_a_repeat_by_the_sdk_changes_nothing(request_name: str) -> None:
    """Every condition holds when a write that had succeeded is repeated."""
    stage = Stage(insert(1), insert(2))
    stage.store.inject(StoreFault.REPEATED, on=request_name)

    summary = stage.run()

    assert (summary.stop_reason, stage.sink.delivered) == (StopReason.CAUGHT_UP, [1, 2])
    assert (stage.index, stage.stored.unreleased_runs) == (2, 0)


def test_a_passing_fault_of_the_server_is_outlasted_inside_the_run() -> None:
    """G11: what was read before it is delivered once, and the stream is opened again."""
    stage = Stage(insert(1), UNAVAILABLE, insert(2))

    summary = stage.run()

    assert (summary.error, summary.stop_reason) == (None, StopReason.CAUGHT_UP)
    assert (stage.sink.delivered, stage.index) == ([1, 2], 3)
    assert stage.telemetry.names.count("source.interrupted") == 1
    assert stage.source.open_readers == 0


def test_a_fault_that_lasts_as_long_as_the_run_fails_it_at_the_position_it_came_to() -> None:
    """G11, G5: with the lease given back, and growing waits between the openings."""
    stage = Stage(insert(1))
    stage.run()
    stage.source.write(insert(2))
    stage.source.refusals.extend(SourceUnavailable("not primary") for _ in range(1_000))

    summary = stage.run(remaining_s=60)

    assert summary.error == "SourceUnavailable: not primary"
    assert 40 < stage.clock.monotonic_s() < 60
    assert stage.telemetry.names.count("source.interrupted") < 40
    assert (stage.index, stage.store.expires_at_ms("orders")) == (1, 0)


def test_a_server_that_was_never_reached_ends_the_run_at_once() -> None:
    """A wrong host is told in seconds, not after a quarter of an hour."""
    stage = Stage(insert(1))
    stage.source.refusals.append(SourceUnreachable("no server"))

    assert stage.run(remaining_s=900).error == "SourceUnreachable: no server"
    assert stage.clock.monotonic_s() < 1


def test_a_stalled_server_costs_no_more_than_a_read_may() -> None:
    """G5: however long it stalls."""
    stage = Stage(insert(1), stall(10_000))

    summary = stage.run(remaining_s=60)

    assert "SourceUnavailable" in (summary.error or "")
    assert stage.clock.monotonic_s() < 60 - 5
    assert stage.index == 1


def test_an_opening_gets_the_whole_budget_and_ends_in_its_own_error() -> None:
    stage = Stage(insert(1))
    stage.source.opening_s = 500

    summary = stage.run(remaining_s=60)

    assert "OpeningTimedOut" in (summary.error or "")
    assert 50 < stage.clock.monotonic_s() < 60
    assert stage.store.expires_at_ms("orders") == 0


def test_a_refusal_by_the_server_fails_the_run_and_keeps_the_position() -> None:
    stage = Stage(insert(1))
    stage.source.refusals.append(SourceRefused("no privileges", 13))

    summary = stage.run()

    assert "SourceRefused: no privileges" in (summary.error or "")
    assert (stage.index, stage.store.gaps) == (0, [])
    assert [
        step for name, _, fields in stage.telemetry.errors for step in [fields.get("step")]
    ] == ["open"]


def test_a_failing_release_hides_no_error() -> None:
    stage = Stage(insert(1))
    stage.source.refusals.append(SourceRefused("no privileges", 13))
    stage.store.inject(StoreFault.REFUSED, on="release")

    summary = stage.run()

    assert "no privileges" in (summary.error or "")
    assert "lease.release_failed" in stage.telemetry.names


def test_changes_before_and_behind_invalidates_come_in_order() -> None:
    """Delivered or hidden: the stream goes on behind them."""
    stage = Stage(insert(1), INVALIDATE, insert(2), HIDDEN_INVALIDATE, insert(3))

    summary = stage.run()

    assert stage.sink.delivered == [1, "invalidate", 2, 3]
    assert (summary.stop_reason, summary.gaps) == (StopReason.CAUGHT_UP, 0)
    assert stage.index == stage.source.end


def test_a_run_that_is_caught_up_has_no_lag() -> None:
    """G12."""
    assert Stage(insert(1)).run().lag_ms == 0


def test_a_run_cut_short_reports_the_servers_time_less_its_positions_and_the_time_since() -> None:
    """G12: never less than it is: two timestamps that differ are up to a second further apart."""
    stage = Stage(insert(1), max_changes=1)
    stage.clock.advance_s(100)
    stage.source.write(insert(2))
    stage.sink.on_deliver = lambda _: stage.clock.advance_s(20)

    summary = stage.run(remaining_s=20)

    assert summary.stop_reason is StopReason.BUDGET
    assert (summary.lag_ms, summary.lag_reason) == (101_000 + 20_000, None)


@pytest.mark.parametrize("why", ["paused", "halted"])
def test_a_stream_that_nobody_reads_has_a_lag_that_grows(why: str) -> None:
    """G12: from the server's time that was heard last, and our own clock since."""
    stage = Stage(insert(1))
    stage.run()
    stage.store.set_status("orders", Status(why), reason="by hand")
    stage.clock.advance_s(3600)

    summary = stage.run()

    assert summary.stop_reason == why
    assert summary.lag_ms is not None
    assert summary.lag_ms >= 3_600_000


def test_a_failing_stream_has_a_lag_too() -> None:
    """G12."""
    stage = Stage(insert(1))
    stage.run()
    stage.clock.advance_s(3600)
    stage.source.refusals.append(SourceRefused("no privileges", 13))

    summary = stage.run()

    assert summary.error is not None
    assert summary.lag_ms is not None
    assert summary.lag_ms >= 3_600_000


def test_where_tokens_have_no_known_form_the_lag_is_unknown_and_never_zero() -> None:
    """G12: silence ends the drain, and proves nothing."""
    stage = Stage(insert(1), traits=Traits(token_times=False))

    summary = stage.run()

    assert summary.stop_reason is StopReason.CAUGHT_UP
    assert summary.lag_ms is None
    assert summary.lag_reason == UNREADABLE
    assert summary.headroom_s is None


FOREIGN = [IDLE] * 40


def test_a_drain_ends_where_the_run_began_however_many_answers_are_empty() -> None:
    """G12: empties while changes wait."""
    stage = Stage(insert(1), *FOREIGN, insert(2))

    summary = stage.run()

    assert (stage.sink.delivered, summary.lag_ms) == ([1, 2], 0)


def test_one_empty_answer_ends_an_idle_drain() -> None:
    """At no more cost than ever: its token has the time that the run began with."""
    stage = Stage()
    stage.run()
    before_s = stage.clock.monotonic_s()

    assert stage.run().stop_reason is StopReason.CAUGHT_UP
    assert stage.clock.monotonic_s() - before_s == pytest.approx(stage.source.await_s)


def test_idle_s_that_is_set_is_a_further_minimum() -> None:
    stage = Stage(idle_s=2.0)
    stage.run()

    assert stage.clock.monotonic_s() >= 2.0


LONG = Traits(entry_s=0.1, scans_on=True)


def test_a_read_may_take_all_that_is_left_of_a_run() -> None:
    """G11: a late answer is not a dead server: 30 s of scanning, and then a change."""
    stage = Stage(*[IDLE] * 300, insert(1), traits=LONG, lease_s=120)

    summary = stage.run(remaining_s=60)

    assert (stage.sink.delivered, summary.error) == ([1], None)
    assert summary.scan_ms >= 30_000


def test_a_run_that_scanned_and_reached_nothing_says_so_and_leaves_no_scan() -> None:
    """G11: how long, from when towards when, and what to raise."""
    stage = Stage(insert(1), lease_s=120)
    stage.run()
    stage.clock.advance_s(100)
    stage.source.traits = LONG
    stage.source.write(*[IDLE] * 1_000, insert(2))

    summary = stage.run(remaining_s=60)

    assert (summary.stop_reason, summary.error) == (StopReason.BUDGET, None)
    assert (summary.no_progress, stage.index, stage.source.scans_left) == (True, 1, 0)
    [told] = [fields for name, _, fields in stage.telemetry.errors if name == "stream.scanning"]
    assert told["scan_ms"] == summary.scan_ms > 50_000
    assert told["from_time"] < told["towards_time"]
    assert "TimeoutS" in told["remedy"]


def test_a_run_whose_token_moves_makes_progress() -> None:
    """G11: where the server shows how far it has come, the position moves with it."""
    stage = Stage(*[IDLE] * 1_000, insert(1), traits=Traits(entry_s=0.5, scan_entries=4))
    first = stage.run(remaining_s=60)
    reached = stage.index

    second = stage.run(remaining_s=60)

    assert (first.stop_reason, first.no_progress) == (StopReason.BUDGET, False)
    assert stage.index > reached > 0
    assert second.lag_ms is not None
    assert second.lag_ms > 0


def test_a_server_that_answers_no_other_connection_either_is_gone() -> None:
    """G11: a read given up is a failed run only where the server is not there at all."""
    stage = Stage(*[IDLE] * 1_000, traits=LONG)
    opened = stage.source.open

    def open_dead(*position: Any, **given: Any) -> Any:
        reader = opened(*position, **given)
        reader.close = lambda **_: False  # type: ignore[method-assign]
        return reader

    stage.source.open = open_dead  # type: ignore[method-assign]

    assert "does not answer another connection" in (stage.run().error or "")


def test_what_a_position_was_read_with_is_stored_with_it() -> None:
    """G10, G12: the deployment, and the server's time as it was heard last."""
    stage = Stage(insert(1))
    stage.run()

    stored = stage.stored.checkpoint
    assert stored is not None
    assert (stored.deployment, stored.unopened) == ("rs0", False)
    assert stored.observed is not None
    assert stored.observed.operation_time == stage.source.operation_time


def test_headroom_is_what_the_oplog_holds_before_the_position() -> None:
    """G12."""
    stage = Stage(insert(1))
    stage.clock.advance_s(500)
    stage.source.write(insert(2))

    assert stage.run().headroom_s == 500


def test_a_summary_is_json_without_anything_private() -> None:
    """G8: positions by their hash."""
    stage = Stage(insert(1, secret="hunter2"))
    told = str(stage.run().as_json())

    assert "hunter2" not in told
    assert "'changes': 1" in told
    assert "token:" in told
