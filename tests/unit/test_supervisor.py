"""The main thread's watch over the streams' workers (G5)."""

from __future__ import annotations

import asyncio
import re
import threading
from typing import TYPE_CHECKING

import pytest

from fakes import Stage, StoreFault, insert
from tidemark.budget import Budget
from tidemark.model import StopReason
from tidemark.supervisor import Supervisor, Worker

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
