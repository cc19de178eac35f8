"""What a run tells of itself where little is known: a reason each time, and no figure (G12)."""

from __future__ import annotations

from typing import Any

import pytest

from fakes import IDLE, Stage, Traits, insert
from tidemark.account import NO_POSITION, NO_TIME, NOT_READ
from tidemark.errors import SourceRefused, SourceUnavailable
from tidemark.model import OplogWindow, Status, StopReason


def refuse(**_: float) -> Any:
    raise SourceRefused("no privileges", 13)


def test_a_stream_without_a_position_has_no_lag_to_tell() -> None:
    stage = Stage(start_at="earliest")
    stage.source.earliest = refuse  # type: ignore[method-assign]

    failed = stage.run()
    stage.store.set_status("orders", Status.PAUSED, reason="by hand")
    paused = stage.run()

    assert [failed.stop_reason, paused.stop_reason] == [StopReason.FAILED, StopReason.PAUSED]
    for summary in (failed, paused):
        assert (summary.lag_ms, summary.lag_reason) == (None, NO_POSITION)
        assert (summary.headroom_s, summary.position) == (None, None)


def test_a_run_that_did_not_get_the_lease_tells_nothing_of_the_stream() -> None:
    """Its holder does."""
    stage = Stage(insert(1))
    inner: list[Any] = []
    stage.sink.on_deliver = lambda _: inner.append(stage.run())

    stage.run()

    [summary] = inner
    assert summary.stop_reason is StopReason.LEASE_HELD
    assert (summary.lag_ms, summary.lag_reason) == (None, NOT_READ)
    assert (summary.headroom_s, summary.headroom_reason) == (None, NOT_READ)


@pytest.mark.parametrize("status", [Status.PAUSED, Status.HALTED])
def test_a_stream_that_nobody_reads_has_a_headroom_that_shrinks(status: Status) -> None:
    """G12: how long until somebody must act."""
    stage = Stage(insert(1))
    stage.clock.advance_s(500)
    stage.source.write(insert(2))
    assert stage.run().headroom_s == 500
    stage.store.set_status("orders", status, reason="by hand")
    stage.clock.advance_s(400)
    stage.source.write(insert(3))
    stage.source.prune(1)

    summary = stage.run()

    assert (summary.headroom_s, summary.headroom_reason) == (0, None)


def windows_asked(stage: Stage) -> list[float]:
    """The time given to each question after the oplog's ends, from now on."""
    asked: list[float] = []

    def window(*, timeout_s: float) -> OplogWindow:
        asked.append(timeout_s)
        return OplogWindow(None, "no privilege")

    stage.source.oplog_window = window  # type: ignore[method-assign]
    return asked


def test_an_oplog_that_cannot_be_read_is_the_headrooms_reason() -> None:
    stage = Stage(insert(1))
    windows_asked(stage)

    summary = stage.run()

    assert (summary.headroom_s, summary.headroom_reason) == (None, "no privilege")


def test_a_run_that_is_late_asks_for_nothing_that_nobody_waits_for() -> None:
    """G5: the release comes first."""
    stage = Stage(insert(1), lease_s=120)
    asked = windows_asked(stage)
    stage.sink.on_deliver = lambda _: stage.clock.advance_s(58.9)

    summary = stage.run(remaining_s=60)

    assert (summary.error, asked) == (None, [])
    assert (summary.headroom_s, summary.headroom_reason) == (None, NO_TIME)


def test_a_server_that_does_not_answer_is_not_asked_how_far_its_oplog_reaches() -> None:
    """G5."""
    stage = Stage(insert(1))
    stage.run()
    asked = windows_asked(stage)
    stage.source.refusals.extend(SourceUnavailable("not primary") for _ in range(1_000))

    assert stage.run().error == "SourceUnavailable: not primary"
    assert asked == []


def test_a_run_that_failed_for_another_reason_has_a_headroom() -> None:
    """G12: an alarm must not fall silent for it."""
    stage = Stage(insert(1))
    stage.run()
    stage.source.refusals.append(SourceRefused("no privileges", 13))

    summary = stage.run()

    assert summary.error is not None
    assert summary.headroom_s == 0


def test_a_long_wait_at_the_end_is_no_scan_that_leads_nowhere() -> None:
    """G11: a lingering run of a quiet stream stays where it is for its whole time."""
    stage = Stage(mode="linger")

    summary = stage.run(remaining_s=60)

    assert (summary.stop_reason, summary.no_progress) == (StopReason.BUDGET, False)
    assert summary.scan_ms == 0
    assert "stream.scanning" not in stage.telemetry.names


def test_a_run_that_came_to_the_end_and_then_scanned_is_not_told_as_stuck() -> None:
    """G11: the end moved away under it, by what others write; its own stream has nothing new."""
    stage = Stage(mode="linger", lease_s=120, traits=Traits(entry_s=0.1, scans_on=True))
    stage.run(remaining_s=20)
    began_at = stage.position
    floods = iter([[], [], [IDLE] * 1_000])
    stage.clock.on_sleep = lambda _: stage.source.write(*next(floods, []))

    summary = stage.run(remaining_s=60)

    assert (summary.stop_reason, summary.scan_ms > 40_000) == (StopReason.BUDGET, True)
    assert stage.position == began_at
    assert summary.no_progress is False


def test_a_run_that_met_a_change_and_then_scanned_is_told_as_progress() -> None:
    """G11: the position moved: the next run begins further on."""
    slow = Traits(entry_s=0.1, scans_on=True)
    stage = Stage(insert(1), *[IDLE] * 1_000, lease_s=120, traits=slow)
    stage.source.server_batch = 1

    summary = stage.run(remaining_s=60)

    assert (summary.stop_reason, summary.changes) == (StopReason.BUDGET, 1)
    assert (summary.no_progress, summary.scan_ms > 40_000) == (False, True)
