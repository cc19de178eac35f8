"""A run over a bulk sink: what each kind of failure becomes of the change and of the stream."""

from __future__ import annotations

from typing import Any

from fakes import (
    ManualClock,
    MemoryDeadLetters,
    MemoryStore,
    RecordingTelemetry,
    ScriptedSource,
    insert,
)
from sink_kinds import (
    TARGETS,
    Bucket,
    Fate,
    Fates,
    Faulty,
    Memory,
    client_error,
    ids,
    sink_on,
    sink_settings,
)
from tidemark.budget import Budget
from tidemark.model import Batch, StopReason, StreamSummary, change_id
from tidemark.ports import Outcome, Ports
from tidemark.run import Run
from tidemark.settings import Settings, StreamSettings


class Rig:
    """One stream from a scripted oplog into a bulk sink, run by run."""

    def __init__(
        self, client: Any, clock: ManualClock | None = None, bucket: Any = None, **sink: Any
    ) -> None:
        self.clock = clock or ManualClock()
        self.source = ScriptedSource(self.clock)
        self.store, self.letters = MemoryStore(self.clock), MemoryDeadLetters()
        self.telemetry = RecordingTelemetry()
        self.client = client
        self.attempts = 0
        self._sink = sink_on(client, sink_settings("sqs", **sink), clock=self.clock, s3=bucket)
        self._stream = StreamSettings(name="orders", start_at="earliest")

    @property
    def may_hang_on_a_change(self) -> bool:
        return self._sink.may_hang_on_a_change

    def deliver(self, batch: Batch, *, deadline_s: float) -> Outcome:
        self.attempts += 1
        return self._sink.deliver(batch, deadline_s=deadline_s)

    def run(self, remaining_s: float = 60, lease_s: float = 300) -> StreamSummary:
        settings = Settings(table="t", lease_s=lease_s, streams=(self._stream,))
        budget = Budget.of_invocation(self.clock, remaining_ms=int(remaining_s * 1000), reserve_s=5)
        ports = Ports(
            source=self.source,
            store=self.store,
            sink=self,
            dead_letters=self.letters,
            clock=self.clock,
            telemetry=self.telemetry,
        )
        return Run(self._stream, settings, ports, budget).execute()

    def ids(self) -> list[str]:
        return [change_id(each) for _, each in sorted(self.source.changes.items())]


def rig_of(count: int, fates: Fates | None = None, **sink: Any) -> Rig:
    rig = Rig(Faulty(Memory(), fates or Fates()), **sink)
    rig.source.write(*(insert(number) for number in range(count)))
    return rig


def test_a_rejected_change_is_set_aside_at_once_and_the_rest_arrives() -> None:
    """G1: exactly that one; a rejection does not heal, so it is not tried again."""
    rig = rig_of(5)
    rejected = rig.ids()[2]
    rig.client.fates = Fates(always={rejected: Fate.REJECTED})
    summary = rig.run()
    assert (summary.stop_reason, summary.dead_letters) == (StopReason.CAUGHT_UP, 1)
    assert [letter.change_id for letter in rig.letters.letters] == [rejected]
    assert set(ids(rig.client.taken)) == {*rig.ids()} - {rejected}
    assert rig.attempts == 2


def test_a_change_that_cannot_be_written_is_set_aside_at_once() -> None:
    rig = rig_of(0)
    rig.source.write(insert(1), insert(2, odd=object()), insert(3))
    summary = rig.run()
    assert (summary.changes, summary.dead_letters, rig.attempts) == (2, 1, 2)
    assert rig.letters.letters[0].error_type == "PoisonChange"


def test_an_oversized_change_is_set_aside_or_halts_the_stream_as_the_sink_says() -> None:
    for oversize, stop in (("dead_letter", StopReason.CAUGHT_UP), ("halt", StopReason.FAILED)):
        rig = rig_of(0, oversize=oversize, max_message_bytes=2_000)
        rig.source.write(insert(1), insert(2, text="x" * 3_000), insert(3))
        summary = rig.run()
        assert summary.stop_reason == stop
        assert len(rig.letters.letters) == (oversize == "dead_letter")
        if oversize == "halt":
            assert "StreamHalted" in str(summary.error)
            assert len(rig.client.taken) == 1
            assert rig.run().stop_reason is StopReason.HALTED


def test_an_outage_of_the_target_sets_nothing_aside_however_long_it_lasts() -> None:
    """G1: it says nothing of a change; each run fails, loudly, and the next tries again."""
    rig = rig_of(3, Fates([Fate.THROTTLED] * 1_000))
    for _ in range(3):
        summary = rig.run()
        assert summary.stop_reason is StopReason.FAILED
        assert "DeliveryFailed" in str(summary.error)
    assert rig.letters.letters == []
    rig.client.fates = Fates()
    assert rig.run().stop_reason is StopReason.CAUGHT_UP
    assert set(ids(rig.client.taken)) == set(rig.ids())


def test_an_outage_that_ends_within_the_run_fails_nothing() -> None:
    rig = rig_of(3, Fates([Fate.THROTTLED] * 40))
    assert rig.run().error is None
    assert set(ids(rig.client.taken)) == set(rig.ids())


def test_no_request_begins_once_the_lease_may_be_anothers() -> None:
    """G4: in a long delivery whose lease nobody renews, by the sink's own watch."""
    begun_s: list[float] = []

    class Slow(Memory):
        def _by_id(self, entries: Any) -> Any:
            begun_s.append(rig.clock.monotonic_s())
            rig.clock.sleep_s(1)
            return super()._by_id(entries)

    rig = Rig(Slow(), target=TARGETS["sqs-fifo"], group="stream")
    rig.source.write(*(insert(number) for number in range(90)))
    summary = rig.run(120, lease_s=30)
    assert summary.stop_reason is StopReason.LEASE_LOST
    assert max(begun_s) < 30 - 2
    assert summary.changes == len(begun_s) > 20


def suspected(rig: Rig) -> Rig:
    """The rig behind two runs that were killed without a word."""
    for number in range(2):
        now_ms = rig.clock.time_ms()
        rig.store.acquire("orders", f"killed {number}", now_ms=now_ms, expires_at_ms=now_ms)
    return rig


def test_an_outage_under_suspicion_of_killers_accuses_nobody() -> None:
    """A wary run counts an attempt before it is made; the target's failure takes it back."""
    rig = suspected(rig_of(3, Fates([Fate.THROTTLED] * 3_000)))
    for _ in range(8):
        rig.run()
    assert rig.letters.letters == []


def test_a_refusal_under_suspicion_of_killers_accuses_nobody() -> None:
    """G1: what only an operator can mend says nothing of a change."""
    rig = suspected(rig_of(3))
    for _ in range(8):
        rig.client.errors = [client_error("AccessDeniedException", 403)]
        assert "lacks sqs:SendMessage" in str(rig.run().error)
    assert rig.letters.letters == []
    rig.client.errors = []
    assert rig.run().changes == 3


def test_a_deadline_under_suspicion_of_killers_accuses_nobody() -> None:
    """G1: a body that takes its time to be put aside is no attempt at its change."""
    bucket = Bucket(clock=(clock := ManualClock()), put_s=2)
    rig = suspected(Rig(Faulty(Memory()), clock, bucket, max_message_bytes=2_000))
    rig.source.write(insert(1, text="x" * 3_000))
    for _ in range(8):
        rig.run(lease_s=5)
    assert rig.letters.letters == []


def test_what_was_delivered_before_a_refusal_is_not_delivered_again() -> None:
    """G3: run after run fails at the change whose body the bucket refuses, and repeats none."""
    bucket = Bucket(errors=[client_error("AccessDenied", 403)] * 100)
    rig = Rig(Faulty(Memory()), ManualClock(), bucket, max_message_bytes=2_000)
    rig.source.write(*(insert(n, text="x" * 3_000 * (n == 30)) for n in range(40)))
    for _ in range(4):
        assert "claim check: the function's role lacks s3:PutObject" in str(rig.run().error)
    sent = ids(rig.client.taken)
    assert sent[:30] == rig.ids()[:30]
    assert len(sent) == len(set(sent))
