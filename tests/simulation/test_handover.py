"""Lingering on a one-minute schedule: the next run takes over from the last without a hole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from fakes import MemoryDeadLetters, MemoryStore, RecordingSink, RecordingTelemetry, ScriptedSource
from fakes import insert as inserted
from simulation.timeline import Timeline
from tidemark.budget import Budget
from tidemark.model import StopReason, StreamSummary
from tidemark.ports import Ports
from tidemark.run import Run
from tidemark.settings import Settings, StreamSettings

if TYPE_CHECKING:
    from fakes.source import ScriptedReader
    from tidemark.model import Batch, Position

PERIOD_S = 60
MINUTES = 20
OVERLAP_S = 2  # a scheduler is late now and then
OPENING_S = 0.2
WRITE_S = 0.1
STREAM = StreamSettings(name="orders", on_failure="halt")


class ListeningSource(ScriptedSource):
    """A scripted source that remembers when it was listened to."""

    def __init__(self, timeline: Timeline) -> None:
        super().__init__(timeline)
        self.opening_s = OPENING_S
        self.listened: list[tuple[float, float]] = []

    def open(
        self,
        stream: StreamSettings,
        position: Position,
        *,
        timeout_s: float,
        batch_size: int | None,
    ) -> ScriptedReader:
        """A reader whose closing is remembered."""
        reader = super().open(stream, position, timeout_s=timeout_s, batch_size=batch_size)
        opened_at_s, close = self.clock.monotonic_s(), reader.close

        def remembered(*, timeout_s: float) -> bool:
            self.listened.append((opened_at_s, self.clock.monotonic_s()))
            return close(timeout_s=timeout_s)

        reader.close = remembered  # type: ignore[method-assign]
        return reader


@dataclass
class Day:
    """A schedule of invocations, a steady writer, and what came of both."""

    acquire_wait_s: float
    timeline: Timeline = field(default_factory=Timeline)
    summaries: list[StreamSummary] = field(default_factory=list)
    delays_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = ListeningSource(self.timeline)
        self.store = MemoryStore()
        self.sink = RecordingSink(on_deliver=self._note)
        self.settings = Settings(
            table="table",
            mode="linger",
            budget_s=PERIOD_S + OVERLAP_S,
            acquire_wait_s=self.acquire_wait_s,
            streams=(STREAM,),
        )

    def pass_by(self) -> None:
        """Let the minutes pass."""
        for minute in range(MINUTES):
            self.timeline.start_at(minute * PERIOD_S, self._invoke)
        self.timeline.start_at(1, self._write)
        self.timeline.run()
        assert not self.timeline.failures

    @property
    def listening_share(self) -> float:
        """Seconds in which a stream was open, over all between the first opening and the last."""
        begun, ended = self.source.listened[0][0], self.source.listened[-1][1]
        return sum(closed - opened for opened, closed in self.source.listened) / (ended - begun)

    def _invoke(self) -> None:
        budget = Budget.of_invocation(
            self.timeline, remaining_ms=90_000, reserve_s=5, budget_s=self.settings.budget_s
        )
        ports = Ports(
            source=self.source,
            store=self.store,
            sink=self.sink,
            dead_letters=MemoryDeadLetters(),
            clock=self.timeline,
            telemetry=RecordingTelemetry(),
        )
        self.summaries.append(Run(STREAM, self.settings, ports, budget).execute())

    def _write(self) -> None:
        while self.timeline.monotonic_s() < MINUTES * PERIOD_S - 1:
            self.source.write(inserted(len(self.delays_s), at_s=self.timeline.monotonic_s()))
            self.timeline.sleep_s(WRITE_S)

    def _note(self, batch: Batch) -> None:
        now_s = self.timeline.monotonic_s()
        self.delays_s += [now_s - change["fullDocument"]["at_s"] for change in batch]


def test_the_next_run_takes_over_without_a_hole() -> None:
    """Listening 98 % of 20 minutes; what is written in a hand-over comes within 1 s of it."""
    day = Day(acquire_wait_s=10)
    day.pass_by()
    assert [summary.stop_reason for summary in day.summaries] == [StopReason.BUDGET] * MINUTES
    assert day.listening_share >= 0.98
    assert max(day.delays_s) <= 1.0
    assert len(day.delays_s) >= (MINUTES * PERIOD_S - 3) / WRITE_S


def test_without_waiting_every_other_run_is_turned_away() -> None:
    """What `acquire_wait_s` is for: the run that comes a moment early leaves a hole of a minute."""
    day = Day(acquire_wait_s=0)
    day.pass_by()
    assert StopReason.LEASE_HELD in {summary.stop_reason for summary in day.summaries}
    assert max(day.delays_s) > 10


@pytest.mark.parametrize("acquire_wait_s", [0, 10])
def test_a_hand_over_repeats_and_loses_nothing(acquire_wait_s: float) -> None:
    """G1, G2: each change once and in order, whoever reads."""
    day = Day(acquire_wait_s=acquire_wait_s)
    day.pass_by()
    assert len(day.sink.delivered_ids) == len(set(day.sink.delivered_ids))
    delivered = [change["fullDocument"]["at_s"] for batch in day.sink.batches for change in batch]
    assert delivered == sorted(delivered)
