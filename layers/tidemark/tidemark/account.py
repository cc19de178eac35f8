"""What came of a run, in its summary and in its log: nothing that is not known, or untrue (G12)."""

from typing import TYPE_CHECKING

from bson.timestamp import Timestamp

from tidemark.lag import headroom_s, lag_ms
from tidemark.model import (
    Checkpoint,
    NotAcquired,
    Observed,
    OplogWindow,
    Position,
    StopReason,
    StreamSummary,
)
from tidemark.ports import Ports
from tidemark.progress import Progress
from tidemark.reading import Reading

if TYPE_CHECKING:
    from tidemark.recovery import Recovery
    from tidemark.settle import Settlement

NOT_READ = "this run did not read the stream"
NO_TIME = "the run had no time left to ask how far back the oplog reaches"
NO_POSITION = "the stream has no position yet"
SCANNING = (
    "the server scans its oplog and has told nothing on the way: raise the function's timeout "
    "(TimeoutS, BudgetS) before the oplog loses the position"
)


class Account:
    """One run's summary, written from what the run's parts know.

    The parts are there once the lease is held: `settlement` and `recovery` count what they did.
    """

    def __init__(self, stream: str, ports: Ports, reading: Reading) -> None:
        self.summary = StreamSummary(stream, error="the run ended without a result")
        self.summary.lag_reason = self.summary.headroom_reason = NOT_READ
        self.settlement: Settlement | None = None
        self.recovery: Recovery | None = None
        self._ports = ports
        self._reading = reading
        self._began_at: Position | None = None

    def began(self, position: Position) -> None:
        """The run reads from `position` on: what it is compared with at its end."""
        self._began_at = self._began_at or position

    def not_had(self, answer: NotAcquired, timeout_s: float | None) -> None:
        """What is known of a stream that nobody reads: its lag grows, and its headroom shrinks."""
        known = answer.checkpoint
        self._tell_lag(known, known.observed if known else None)
        self.tell_headroom(known, timeout_s)

    def count(self) -> None:
        """How much was done so far."""
        self.summary.scan_ms = int(self._reading.scan_s * 1000)
        if self.settlement is not None:
            self.summary.changes = self.settlement.delivered
            self.summary.batches = self.settlement.batches
            self.summary.dead_letters = self.settlement.dead_letters
        if self.recovery is not None:
            self.summary.gaps = self.recovery.gaps

    def tell(self, progress: Progress) -> None:
        """How much was done, where the stream stands and how far that is behind."""
        self.count()
        self._tell_lag(progress.latest, progress.observed)
        if progress.latest is not None:
            self.summary.position = str(progress.latest.position)

    def tell_headroom(self, latest: Checkpoint | None, timeout_s: float | None) -> None:
        """How much of the oplog is before the position; without a timeout there was no time."""
        window = OplogWindow(None, NO_TIME)
        if timeout_s is not None:
            window = self._ports.source.oplog_window(timeout_s=timeout_s)
        headroom = headroom_s(self._time_of(latest), window)
        self.summary.headroom_s, self.summary.headroom_reason = headroom.value, headroom.reason

    def tell_scanning(self, progress: Progress) -> None:
        """Say so where all of the run's time went into a scan that the server has not ended."""
        self.summary.no_progress = (
            self.summary.stop_reason is StopReason.BUDGET
            and not self._reading.has_reached_end
            and self._reading.scan_s > 0
            and progress.latest is not None
            and progress.latest.position == self._began_at
        )
        if self.summary.no_progress:
            self._ports.telemetry.error(
                "stream.scanning",
                scan_ms=self.summary.scan_ms,
                from_time=_iso(self._time_of(progress.latest)),
                towards_time=_iso(self._reading.opened_at),
                remedy=SCANNING,
            )

    def _tell_lag(self, latest: Checkpoint | None, observed: Observed | None) -> None:
        if latest is None:
            self.summary.lag_reason = NO_POSITION
            return
        lag = lag_ms(
            self._time_of(latest),
            observed,
            self._ports.clock.time_ms(),
            is_at_end=self._reading.is_at_end,
        )
        self.summary.lag_ms, self.summary.lag_reason = lag.value, lag.reason

    def _time_of(self, latest: Checkpoint | None) -> Timestamp | None:
        return None if latest is None else self._ports.source.time_of(latest.position)


def _iso(time: Timestamp | None) -> str | None:
    return None if time is None else time.as_datetime().isoformat()
