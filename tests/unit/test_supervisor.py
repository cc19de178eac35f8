"""The main thread's watch over the streams' workers (G5)."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from fakes import IDLE, UNAVAILABLE, Stage, StoreFault, insert
from tidemark import supervisor
from tidemark.budget import Budget
from tidemark.errors import SourceUnavailable
from tidemark.model import StopReason, StreamSummary
from tidemark.supervisor import PROGRESS_EVERY_S, Supervisor, Worker
from tidemark.telemetry import metrics_of, metrics_under_way

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tidemark.model import Batch

PATIENCE_S = 10  # of a test that would hang otherwise; never waited for


class Watched:
    """A stage's run under a supervisor whose process end is remembered in `ends`."""

    def __init__(self, stage: Stage, remaining_s: float = 60.0) -> None:
        self.stage = stage
        self.ends: list[object] = []
        self.worker = Worker(stage.made(remaining_s=remaining_s), stage.telemetry)
        budget = Budget.of_invocation(
            stage.clock, remaining_ms=int(remaining_s * 1000), reserve_s=stage.settings.reserve_s
        )
        self._supervisor = Supervisor(
            stage.clock, budget, lambda: self.ends.append("flushed"), self.ends.append
        )

    def supervise(self) -> None:
        """To the run's end, or the process's."""
        self._supervisor.supervise([self.worker])


class Unforeseen(Exception):
    """What no adapter would raise."""


@pytest.fixture
def freed() -> Iterator[threading.Event]:
    """Set when a test ends: a hung worker goes on then, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()
    for thread in threading.enumerate():
        if thread.name == "orders":
            thread.join(PATIENCE_S)


def hanging(stage: Stage, freed: threading.Event, seconds: float = 100) -> Callable[[Batch], None]:
    """A `deliver` that does not return while `seconds` go by."""

    def deliver(_: Batch) -> None:
        stage.clock.advance_s(seconds)
        freed.wait(PATIENCE_S)

    return deliver


def test_a_run_that_ends_by_itself_ends_no_process() -> None:
    watched = Watched(Stage(insert(1)))
    watched.supervise()

    assert watched.ends == []
    assert not watched.worker.is_busy()
    assert watched.worker.run.summary.stop_reason is StopReason.CAUGHT_UP


def test_a_lease_is_renewed_while_its_worker_is_busy() -> None:
    """G4, G5: a slow delivery does not lose the stream."""
    stage = Stage(insert(1))
    renewed = threading.Event()
    renew = stage.store.renew

    def renew_and_tell(*lease: object, **end: int) -> None:
        renew(*lease, **end)  # type: ignore[arg-type]
        renewed.set()

    stage.store.renew = renew_and_tell  # type: ignore[method-assign,assignment]

    def slow(_: Batch) -> None:
        stage.clock.advance_s(0.7 * 30)
        assert renewed.wait(PATIENCE_S)

    stage.sink.on_deliver = slow
    Watched(stage).supervise()

    assert "renew" in stage.store.requests
    assert stage.sink.delivered == [1]


def test_a_renewal_that_fails_is_told_and_tried_again() -> None:
    stage = Stage(insert(1))
    stage.store.inject(StoreFault.REFUSED, on="renew")
    renewed = threading.Event()
    renew = stage.store.renew

    def renew_and_tell(*lease: object, **end: int) -> None:
        renew(*lease, **end)  # type: ignore[arg-type]
        renewed.set()

    stage.store.renew = renew_and_tell  # type: ignore[method-assign,assignment]

    def slow(_: Batch) -> None:
        stage.clock.advance_s(0.7 * 30)
        assert renewed.wait(PATIENCE_S)

    stage.sink.on_deliver = slow
    Watched(stage).supervise()

    assert "lease.renewal_failed" in stage.telemetry.names
    assert stage.store.requests.count("renew") >= 2


def test_a_hung_deliver_ends_the_process_with_its_attempt_recorded(freed: threading.Event) -> None:
    """G5: recorded, flushed, ended; the position is unchanged."""
    stage = Stage(insert(1), insert(2))
    stage.sink.on_deliver = hanging(stage, freed, seconds=59.5)
    watched = Watched(stage)

    watched.supervise()

    assert watched.ends == ["flushed", 1]
    assert stage.stored.attempts.count == 1
    assert stage.stored.attempts.change_id == stage.sink.batches[0].change_id(
        stage.sink.batches[0][0]
    )
    assert (stage.index, stage.sink.delivered) == (0, [])
    assert "deliver.hung" in (watched.worker.run.summary.error or "")


def test_a_hung_stack_is_files_and_lines_only(freed: threading.Event) -> None:
    """G8: no source line, no value."""
    stage = Stage(insert(1))
    stage.sink.on_deliver = hanging(stage, freed)
    Watched(stage).supervise()

    [fields] = [fields for name, _, fields in stage.telemetry.errors if name == "deliver.hung"]
    assert fields["step"] == "deliver"
    assert len(fields["stack"]) > 3
    assert all(re.fullmatch(r"[^\s:]+:\d+", frame) for frame in fields["stack"])
    assert any("test_supervisor.py" in frame for frame in fields["stack"])


def test_a_hang_outside_deliver_is_told_by_its_step(freed: threading.Event) -> None:
    """A server beyond its timeouts."""
    stage = Stage(insert(1))

    def stuck(**_: float) -> object:
        stage.clock.advance_s(100)
        freed.wait(PATIENCE_S)
        raise AssertionError("nobody waits for this")

    stage.source.earliest = stuck  # type: ignore[method-assign,assignment]
    watched = Watched(stage)
    watched.supervise()

    assert watched.ends == ["flushed", 1]
    assert "run.hung" in stage.telemetry.names
    assert stage.stored.attempts.count == 0


def test_a_record_that_fails_is_told_and_not_printed(freed: threading.Event) -> None:
    """G8: it fails in a thread of its own; the process ends all the same (G5)."""
    stage = Stage(insert(1))
    stage.sink.on_deliver = hanging(stage, freed, seconds=59.5)
    save = stage.store.save

    def unforeseen(*progress: object, **end: int) -> None:
        if stage.sink.attempts:
            raise Unforeseen("secret words")
        save(*progress, **end)  # type: ignore[arg-type]

    stage.store.save = unforeseen  # type: ignore[method-assign,assignment]
    watched = Watched(stage)
    watched.supervise()

    assert ("run.failed", Unforeseen) in [(name, type(e)) for name, e, _ in stage.telemetry.errors]
    assert watched.ends == ["flushed", 1]


def test_a_store_that_stalls_too_does_not_keep_the_process(freed: threading.Event) -> None:
    """G5: recording the attempt may take its share of the grace, not more."""
    stage = Stage(insert(1))
    stage.sink.on_deliver = hanging(stage, freed, seconds=59.5)
    save, recorded = stage.store.save, []

    def stuck(*progress: object, **end: int) -> None:
        if stage.sink.attempts:
            freed.wait(PATIENCE_S)
            recorded.append(progress)
        save(*progress, **end)  # type: ignore[arg-type]

    stage.store.save = stuck  # type: ignore[method-assign,assignment]
    watched = Watched(stage)
    watched.supervise()

    assert (watched.ends, recorded) == (["flushed", 1], [])


@pytest.mark.parametrize("stop", [SystemExit, asyncio.CancelledError])
def test_what_escapes_a_run_is_told_and_not_printed(
    stop: type[BaseException], capfd: pytest.CaptureFixture[str]
) -> None:
    """G8: Python would print the message of an error that ends a thread, or nothing at all."""
    stage = Stage(insert(1))

    def leave(**_: float) -> object:
        raise stop("secret words")

    stage.source.earliest = leave  # type: ignore[method-assign,assignment]
    watched = Watched(stage)
    watched.supervise()

    [(name, cause, fields)] = stage.telemetry.errors
    assert (name, type(cause), fields) == ("run.failed", stop, {"step": "open"})
    assert "secret" not in "".join(capfd.readouterr())
    assert watched.ends == []
    assert watched.worker.run.summary.error == "the run ended without a result"
    assert watched.worker.run.summary.stop_reason is StopReason.FAILED


def test_no_invocation_returns_with_a_live_worker() -> None:
    """G5: two streams, each followed to its end."""
    stages = [Stage(insert(1)), Stage(*map(insert, range(50)), max_changes=1)]
    watched = [Watched(stage) for stage in stages]
    workers = [each.worker for each in watched]
    budget = Budget.of_invocation(stages[0].clock, remaining_ms=60_000, reserve_s=5)
    Supervisor(stages[0].clock, budget, lambda: None, watched[0].ends.append).supervise(workers)

    assert not any(worker.is_busy() for worker in workers)
    assert [stage.index for stage in stages] == [1, 50]


# ------------------------------------------------------------------------------ deliver_timeout_s

LIMIT_S = 10.0


class ToldBudget(Budget):
    """A budget that tells when it was ended early."""

    def __init__(self, of: Budget) -> None:
        super().__init__(of.stop_s, of.abandon_s, of.deadline_s, of.deadline_ms)
        self.ended_early = threading.Event()

    def end_early(self, now_s: float) -> None:
        """End, then tell."""
        super().end_early(now_s)
        self.ended_early.set()


class Process:
    """Two streams of one process: `hung` is the one whose `deliver` takes too long."""

    def __init__(self, hung: Stage, other: Stage) -> None:
        self.ends: list[object] = []
        self.budget = ToldBudget(hung.budget())
        self.hung, self.other = [
            Worker(stage.made(budget=self.budget), stage.telemetry) for stage in (hung, other)
        ]
        self._supervisor = Supervisor(
            hung.clock, self.budget, lambda: self.ends.append("flushed"), self.ends.append
        )

    def supervise(self) -> None:
        """To the end of both runs, or the process's."""
        self._supervisor.supervise([self.hung, self.other])


@pytest.fixture
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor looks at the clock often: the tests' time is not the machine's."""
    monkeypatch.setattr(supervisor, "WATCH_S", 0.01)


@pytest.mark.parametrize(
    ("took_s", "may_hang", "is_overdue"),
    [(LIMIT_S, True, False), (LIMIT_S + 0.1, True, True), (LIMIT_S + 0.1, False, False)],
    ids=["in time", "too long", "a bulk sink"],
)
def test_only_a_function_can_take_too_long(took_s: float, may_hang: bool, is_overdue: bool) -> None:
    """G5: a bulk sink's deliveries end by themselves, at their deadline."""
    stage = Stage(insert(1), deliver_timeout_s=LIMIT_S)
    stage.sink.may_hang_on_a_change = may_hang
    run, judged = stage.made(), list[bool]()

    def deliver(_: Batch) -> None:
        stage.clock.advance_s(took_s)
        judged.append(run.is_overdue(stage.clock.monotonic_s()))

    stage.sink.on_deliver = deliver
    run.execute()

    assert judged == [is_overdue]
    assert not run.is_overdue(stage.clock.monotonic_s() + 1_000)  # nothing is being delivered


def test_each_call_has_its_own_time() -> None:
    stage = Stage(insert(1), insert(2), max_changes=1, deliver_timeout_s=LIMIT_S)
    run, judged = stage.made(), list[bool]()

    def deliver(_: Batch) -> None:
        stage.clock.advance_s(LIMIT_S - 1)
        judged.append(run.is_overdue(stage.clock.monotonic_s()))

    stage.sink.on_deliver = deliver
    run.execute()

    assert judged == [False, False]


@pytest.mark.usefixtures("_watchful")
def test_a_deliver_that_takes_too_long_ends_the_process_long_before_the_budget(
    freed: threading.Event,
) -> None:
    """G5: logged and recorded with its attempt, at an unchanged position."""
    stage = Stage(insert(1), deliver_timeout_s=LIMIT_S)
    stage.sink.on_deliver = hanging(stage, freed, seconds=LIMIT_S + 0.1)
    watched = Watched(stage)

    watched.supervise()

    assert watched.ends == ["flushed", 1]
    assert stage.clock.monotonic_s() < 2 * LIMIT_S
    assert (stage.stored.attempts.count, stage.stored.attempts.open) == (1, True)
    assert (stage.index, stage.letters.letters) == (0, [])
    assert watched.worker.run.summary.error == (
        "deliver.hung: step 'deliver' took longer than deliver_timeout_s"
    )
    assert stage.telemetry.names.count("deliver.hung") == 1


@pytest.mark.usefixtures("_watchful")
def test_the_other_streams_of_a_process_with_a_hung_deliver_end_in_good_order(
    freed: threading.Event,
) -> None:
    """G5, G13: early, with what they have delivered stored and their leases given back."""
    hung = Stage(insert(1), deliver_timeout_s=LIMIT_S)
    other = Stage(insert("a"), insert("b"), clock=hung.clock, mode="linger", max_changes=1)
    process = Process(hung, other)
    hung.sink.on_deliver = hanging(hung, freed, seconds=LIMIT_S + 0.1)

    def until_the_end_is_early(_: Batch) -> None:
        assert process.budget.ended_early.wait(PATIENCE_S)

    other.sink.on_deliver = until_the_end_is_early
    process.supervise()

    assert process.ends == ["flushed", 1]
    assert (hung.stored.attempts.count, hung.index) == (1, 0)
    summary = process.other.run.summary
    assert (summary.stop_reason, summary.error) == (StopReason.BUDGET, None)
    assert (other.sink.delivered, other.index) == (["a"], 1)
    assert (other.store.requests[-1], other.store.expires_at_ms("orders")) == ("release", 0)
    assert other.stored.attempts.count == 0
    assert other.clock.monotonic_s() < 2 * LIMIT_S


@pytest.mark.usefixtures("_watchful")
def test_a_late_deliver_that_returns_meanwhile_ends_no_process() -> None:
    """G5, G13: it has delivered, and is set aside by no later run."""
    hung = Stage(insert(1), deliver_timeout_s=LIMIT_S, max_attempts=1)
    other = Stage(insert("a"), clock=hung.clock)
    process, recorded = Process(hung, other), threading.Event()
    save = hung.store.save

    def save_and_tell(*progress: object, **end: int) -> None:
        save(*progress, **end)  # type: ignore[arg-type]
        if hung.stored.attempts.open:
            recorded.set()

    hung.store.save = save_and_tell  # type: ignore[method-assign,assignment]

    def late(_: Batch) -> None:
        hung.clock.advance_s(LIMIT_S + 0.1)
        assert process.budget.ended_early.wait(PATIENCE_S)
        assert recorded.wait(PATIENCE_S)

    hung.sink.on_deliver = late
    other.sink.on_deliver = lambda _: process.hung.wait(PATIENCE_S)
    process.supervise()

    assert "deliver.hung" in hung.telemetry.names
    assert (process.ends, process.hung.run.summary.error) == ([], None)
    hung.sink.on_deliver = lambda _: None
    hung.source.write(insert(2))
    hung.run()
    assert (hung.sink.delivered, hung.letters.letters) == ([1, 2], [])
    assert hung.stored.attempts.count == 0


# ------------------------------------------------------------------------- a long run's progress


class Long:
    """A run whose worker is asked for its progress whenever time passes; reports are kept."""

    def __init__(self, stage: Stage, report: Callable[[StreamSummary], None] | None = None) -> None:
        self.stage = stage
        self.reports: list[int] = []
        self.run = stage.made(remaining_s=300)
        worker = Worker(self.run, stage.telemetry, report or self._keep)
        stage.clock.on_sleep = lambda _: worker.tell_progress_if_due(stage.clock.monotonic_s())

    def _keep(self, summary: StreamSummary) -> None:
        self.reports.append(summary.changes)

    @property
    def told(self) -> list[dict[str, object]]:
        """The fields of each `run.progress`."""
        return [fields for name, fields in self.stage.telemetry.events if name == "run.progress"]


def test_a_long_run_tells_its_progress_once_a_minute() -> None:
    """G12: in the log and as a metric: who watches it must not take it for dead."""
    long = Long(Stage(insert(1), mode="linger"))
    long.run.execute()

    assert [fields["step"] for fields in long.told] == ["read"] * 4
    assert long.reports == [1] * 4
    assert {(fields["lag_ms"], fields["changes"]) for fields in long.told} <= {
        (lag_ms, 1) for lag_ms in range(60_000)
    }


def test_a_run_that_delivers_slowly_gets_on() -> None:
    """G12."""
    stage = Stage(*map(insert, range(12)), max_changes=1, lease_s=300)
    stage.sink.on_deliver = lambda _: stage.clock.sleep_s(25)
    long = Long(stage)
    long.run.execute()

    assert len(long.told) >= 3
    assert long.reports == sorted(set(long.reports))


def test_a_run_without_a_lease_has_no_progress() -> None:
    stage = Stage(insert(1))
    run = stage.made()

    assert run.tell_progress() is None
    assert stage.telemetry.names == []


@pytest.mark.parametrize("opens", [0, 1], ids=["at its opening", "after it was read"])
def test_a_run_that_only_waits_for_a_failing_server_tells_no_progress(opens: int) -> None:
    """G12: NoSuccessAlarm must ring for it."""
    stage = Stage(IDLE, UNAVAILABLE, lease_s=300)
    open_at, opened = stage.source.open, list[bool]()

    def refused_from_now_on(*given: Any, **named: Any) -> Any:
        opened.append(True)
        if len(opened) > opens:
            raise SourceUnavailable("not primary")
        return open_at(*given, **named)

    stage.source.open = refused_from_now_on  # type: ignore[method-assign]
    long = Long(stage)
    summary = long.run.execute()

    assert summary.error == "SourceUnavailable: not primary"
    assert stage.clock.monotonic_s() > 4 * PROGRESS_EVERY_S
    assert (long.told, long.reports) == ([], [])


@pytest.mark.parametrize("failing", ["outages", "failures"])
def test_a_run_that_only_waits_for_a_failing_sink_tells_no_progress(failing: str) -> None:
    """G12."""
    stage = Stage(insert(1), lease_s=300, max_attempts=1_000)
    setattr(stage.sink, failing, 10_000)
    long = Long(stage)
    long.run.execute()

    assert stage.clock.monotonic_s() > 4 * PROGRESS_EVERY_S
    assert (long.told, long.reports) == ([], [])


def test_progress_that_cannot_be_told_hurts_nothing() -> None:
    """G8: the failure itself is told, by its type alone."""

    def fail(_: StreamSummary) -> None:
        raise Unforeseen("secret words")

    long = Long(Stage(insert(1), mode="linger"), fail)
    summary = long.run.execute()

    assert (summary.stop_reason, summary.error) == (StopReason.BUDGET, None)
    assert len(long.told) == 4
    assert [type(error) for _, error, _ in long.stage.telemetry.errors] == [Unforeseen] * 4


@pytest.mark.usefixtures("_watchful")
def test_the_supervisor_asks_each_busy_worker_for_its_progress() -> None:
    stage = Stage(insert(1), insert(2), max_changes=1, lease_s=900, deliver_timeout_s=900)
    told = threading.Event()
    budget = stage.budget(900)
    worker = Worker(stage.made(budget=budget), stage.telemetry, lambda _: told.set())

    def deliver(_: Batch) -> None:
        minutes = 10 if stage.sink.delivered else 0
        while minutes and not told.wait(0.1):
            stage.clock.advance_s(PROGRESS_EVERY_S)
            minutes -= 1

    stage.sink.on_deliver = deliver
    Supervisor(stage.clock, budget, lambda: None, lambda _: None).supervise([worker])

    assert told.is_set()
    assert worker.run.summary.stop_reason is StopReason.CAUGHT_UP


def test_a_run_under_way_is_counted_as_one_that_has_not_succeeded_yet() -> None:
    """G12: an alarm that adds the two up finds each in every sum."""
    summary = Stage(insert(1)).run()

    under_way, over = metrics_under_way(summary), metrics_of(summary, 5.0)
    assert (under_way["RunsUnderWay"], under_way["RunsSucceeded"]) == (1, 0)
    assert (over["RunsUnderWay"], over["RunsSucceeded"]) == (0, 1)
    assert under_way["LagMs"] == over["LagMs"] == 0
    summary.lag_ms = None
    assert "LagMs" not in metrics_under_way(summary)
