"""Delivering a batch, and settling what cannot be delivered (G1, G2).

A failed delivery is tried again with exponential backoff and full jitter while the budget lasts;
its attempts are stored with the checkpoint, so that a poison change is recognised by whichever
container meets it next. After `max_attempts` the poison is the change that the sink named or, where
it only said "failed", is found by halving, over several runs where failures are slow. Whoever is
found that way has attempts of its own, alone; then the stream's `on_failure` decides.

What an error is decides more than how often: a RetryableError is the target's, counts against no
change and is outlasted; a PoisonChange that the sink named is set aside at once; a FatalError halts
the stream.

A change that kills its container raises nothing. After such runs a `Settlement` is wary: one change
at a time in the whole process, its attempt stored *before* it is delivered.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn, TypeAlias, cast

from tidemark.backoff import backoff_s, jitter_of
from tidemark.budget import Budget
from tidemark.errors import (
    DeliveryFailed,
    FatalError,
    PoisonChange,
    RetryableError,
    StreamHalted,
)
from tidemark.lease import HeldLease
from tidemark.model import NO_ATTEMPTS, Acquired, Attempts, Batch, Change, Undecodable, change_id
from tidemark.ports import DeadLetter, Outcome, Ports
from tidemark.progress import Progress
from tidemark.settings import StreamSettings

OUTAGE_ATTEMPTS = 4  # how patient: as behind so many failures of a change
KILLED_RUNS = 2  # unreleased runs at one position that make a stream's changes suspect
HOPELESS_RUNS = 20  # of which none came to deliver: what kills them cannot be set aside

Unsettled: TypeAlias = tuple[Sequence[Change], int]


class ContainerKilled(PoisonChange):
    """The container ended, without a word, each time this change was being delivered."""


def is_wary(acquired: Acquired) -> bool:
    """Whether runs before this one were killed at this position while delivering."""
    killed, attempts = acquired.unreleased_runs, acquired.attempts
    return killed >= KILLED_RUNS or (killed > 0 and attempts.count > 0) or attempts.open


def is_killed_reading(acquired: Acquired) -> bool:
    """Whether run after run was killed before it came to deliver anything."""
    return acquired.unreleased_runs >= HOPELESS_RUNS and not acquired.attempts.count


def one_more(attempts: Attempts, name: str, now_ms: int, *, alone: bool) -> Attempts:
    """The attempts after one more failure of the change named `name`, `alone` or before others.

    The first one alone begins anew: what failed in company was perhaps another change's fault.
    """
    known = attempts.change_id == name and (attempts.alone or not alone)
    first = attempts.first_at_ms if known else now_ms
    return Attempts(attempts.of(name) + 1 if known else 1, name, first, alone)


def suspects_among(available: int, attempts: Attempts, max_attempts: int) -> int:
    """How many changes from the one with `attempts` on hold its poison, by earlier runs.

    0: nothing is known against anybody. Each failure in company beyond `max_attempts` has halved
    the suspects once.
    """
    if attempts.alone:
        return 1
    halved = attempts.count - max_attempts
    return 0 if halved < 0 else max(1, available >> halved)


class Settlement:
    """Steps 4 and 5 of a run, for one stream."""

    def __init__(
        self,
        stream: StreamSettings,
        ports: Ports,
        budget: Budget,
        held: HeldLease,
        progress: Progress,
        *,
        wary: bool,
    ) -> None:
        self.batches = 0
        self.delivered = 0
        self.dead_letters = 0
        self._in_flight: Sequence[Change] = ()
        self._began_s = 0.0  # the delivery under way
        self._before = NO_ATTEMPTS  # of the delivery under way
        self._stream = stream
        self._ports = ports
        self._budget = budget
        self._held = held
        self._progress = progress
        self._jitter = jitter_of(held.lease)
        self._wary_left = stream.max_changes if wary else 0

    @property
    def is_wary(self) -> bool:
        """Whether changes are delivered one at a time, each attempt stored first."""
        return self._wary_left > 0

    def deliver(self, changes: Sequence[Change]) -> int:
        """Settle `changes` in order until the budget is spent; how many are delivered or set aside.

        The first attempt is always made: the reserve pays for it. Raises DeliveryFailed,
        DeadLetterFailed, StreamHalted, SinkRefused, LeaseLost and the store's errors.
        """
        self.batches += 1
        remaining, suspects = changes, self._suspects_among(changes)
        while remaining:
            remaining, suspects = self._settle_some(remaining, suspects)
            if self._is_spent():
                break
        return len(changes) - len(remaining)

    def is_overdue(self, now_s: float) -> bool:
        """Whether a call of the user's function has taken longer than it may."""
        return (
            bool(self._in_flight)
            and self._ports.sink.may_hang_on_a_change
            and now_s - self._began_s > self._stream.deliver_timeout_s
        )

    def record_hung(self) -> None:
        """Store the attempt of a delivery that will not end; the position stays before it.

        Where only the target can be to blame, nobody is: the lease is given back as by a run that
        failed, and no change is suspected of having killed its container.
        """
        changes = self._in_flight
        if changes and not self._ports.sink.may_hang_on_a_change:
            self.record_cut_short()
            return
        if changes and not self.is_wary:
            self._count_attempt(changes[0], alone=len(changes) == 1, open=True)
        self._progress.save()

    def record_cut_short(self) -> None:
        """Give the lease back as if the delivery under way had never begun."""
        if self._in_flight:
            self._progress.attempts = self._before
        self._progress.release()

    def _suspects_among(self, changes: Sequence[Change]) -> int:
        attempts = self._progress.attempts
        if not attempts.of(change_id(changes[0]) if attempts.count else ""):
            return 0
        return suspects_among(len(changes), attempts, self._stream.max_attempts)

    def _settle_some(self, changes: Sequence[Change], suspects: int) -> Unsettled:
        """One attempt at the head of `changes`; what is left, and how many of it are suspects.

        No suspects: nothing is known against anybody. Else the poison is among the first so many.
        """
        beyond_hope = self._beyond_hope(changes[0])
        if beyond_hope is not None:
            self._set_aside(changes[0], beyond_hope)
            return changes[1:], 0
        size = self._attempt_size(len(changes), suspects)
        self._before = self._progress.attempts
        outcome = self._attempt(changes[:size])
        rest = changes[outcome.delivered :]
        if outcome.error is None:
            return rest, self._acquitted(rest, suspects, outcome.delivered)
        if isinstance(outcome.error, RetryableError):
            return rest, self._outlast(outcome)
        return self._after_failure(rest, outcome, size, suspects)

    def _beyond_hope(self, change: Change) -> Exception | None:
        """Why `change` is not even to be tried, None if it is."""
        if isinstance(change, Undecodable):
            return change.cause
        attempts = self._progress.attempts
        known = attempts.open and attempts.alone  # its last attempt ended with its container
        if known and attempts.of(change_id(change)) >= self._stream.max_attempts:
            return ContainerKilled(f"the container ended at attempt {attempts.count} to deliver it")
        return None

    def _attempt_size(self, available: int, suspects: int) -> int:
        if self.is_wary:
            return 1
        return max(1, suspects // 2) if suspects else available

    def _attempt(self, changes: Sequence[Change]) -> Outcome:
        """Deliver `changes`; what is suspected of killing goes alone in the whole process."""
        if not self.is_wary:
            return self._deliver(changes)
        one_suspect = self._ports.one_suspect
        if not one_suspect.acquire(timeout=max(0.0, self._left_s())):
            raise DeliveryFailed(
                f"stream {self._stream.name!r}: another stream's suspect change took all the time"
            )
        try:
            self._count_attempt(changes[0], alone=True, open=True)
            self._progress.save()
            outcome = self._deliver(changes)
        except Exception:  # the store or the target refuses: no attempt was made
            self._progress.attempts = self._before
            raise
        finally:
            one_suspect.release()
        self._acquit(outcome.delivered)
        return outcome

    def _deliver(self, changes: Sequence[Change]) -> Outcome:
        """Deliver copies: a sink may take them apart, position and letter are the originals'."""
        self._held.require()
        copies = [*map(dict, changes)]
        batch = Batch(self._stream.name, copies, self._held.lease.fencing_token)
        self._began_s, self._in_flight = self._ports.clock.monotonic_s(), changes
        deadline_s = min(self._budget.abandon_s, self._held.ours_until_s)
        outcome = self._ports.sink.deliver(batch, deadline_s=deadline_s)
        self._in_flight = ()
        self.delivered += outcome.delivered
        self._progress.delivered(changes[: outcome.delivered])
        return outcome

    def _acquit(self, delivered: int) -> None:
        """Store the end of a wary stretch: a killer behind it must not bring the run back here."""
        self._wary_left = max(0, self._wary_left - delivered)
        if not self.is_wary:
            self._progress.save()

    def _acquitted(self, rest: Sequence[Change], suspects: int, delivered: int) -> int:
        """How many suspects are left; the next of them inherits what failed in company."""
        if not delivered:  # the deadline came first: nothing was tried
            self._progress.attempts = self._before
            return suspects
        suspects -= delivered
        if suspects <= 0:
            return 0
        exhausted = Attempts(self._stream.max_attempts, change_id(rest[0]), self._now_ms())
        self._progress.attempts = exhausted
        return suspects

    def _after_failure(
        self, rest: Sequence[Change], outcome: Outcome, size: int, suspects: int
    ) -> Unsettled:
        """An attempt of `size` changes failed, somewhere at the head of `rest`."""
        error, failed = cast("Exception", outcome.error), size - outcome.delivered
        is_blamed = outcome.named or size == 1
        if self.is_wary:  # counted before it was tried; it killed nobody
            self._progress.attempts = replace(self._progress.attempts, open=False)
        else:
            self._count_attempt(rest[0], alone=is_blamed)
        attempts = self._progress.attempts
        self._ports.telemetry.error(
            "delivery.failed",
            error,
            change_id=attempts.change_id,
            attempts=attempts.count,
            changes=failed,
        )
        hopeless = outcome.named and isinstance(error, PoisonChange | FatalError)
        if not hopeless and attempts.count < self._stream.max_attempts:
            self._back_off(attempts.count, error)
            return rest, 1 if is_blamed and suspects else 0
        if hopeless or is_blamed:
            self._set_aside(rest[0], error)
            return rest[1:], 0
        if self._is_spent():
            raise self._failed(error) from error
        return rest, failed

    def _set_aside(self, change: Change, error: Exception) -> None:
        """Dead-letter `change` durably, then pass it; or halt the stream before it."""
        name, attempts = change_id(change), self._progress.attempts
        self._held.require()
        if self._stream.on_failure == "halt" or isinstance(error, FatalError):
            self._halt(name, attempts, error)
        self._ports.dead_letters.put(
            DeadLetter(
                stream=self._stream.name,
                change_id=name,
                change=change,
                error_type=type(error).__qualname__,
                error_message=str(error),
                attempts=attempts.of(name),
                first_failed_at_ms=attempts.first_at_ms or self._now_ms(),
                last_failed_at_ms=self._now_ms(),
                fencing_token=self._held.lease.fencing_token,
            )
        )
        self._progress.delivered([change])
        self._progress.save()  # a crash behind it must not set it aside again
        self._wary_left = 0
        self.dead_letters += 1
        self._ports.telemetry.error("dead_letter.stored", error, change_id=name)

    def _halt(self, name: str, attempts: Attempts, error: Exception) -> NoReturn:
        reason = f"change {name} failed {attempts.of(name)} times: {type(error).__qualname__}"
        self._progress.halt(reason)
        raise StreamHalted(f"stream {self._stream.name!r}: {reason}") from error

    def _outlast(self, outcome: Outcome) -> int:
        """Wait for the target: its failure counts against no change, and makes none a suspect."""
        error = cast("RetryableError", outcome.error)
        self._ports.telemetry.error("delivery.failed", error)
        if not outcome.delivered:  # a wary attempt was counted before it was tried
            self._progress.attempts = self._before
        self._back_off(OUTAGE_ATTEMPTS, error)
        return 0

    def _back_off(self, attempts: int, error: Exception) -> None:
        delay = backoff_s(attempts, self._jitter)
        if delay >= self._left_s():
            if isinstance(error, RetryableError):
                raise error
            raise self._failed(error) from error
        self._ports.clock.sleep_s(delay)

    def _failed(self, error: Exception) -> DeliveryFailed:
        attempts = self._progress.attempts
        return DeliveryFailed(
            f"stream {self._stream.name!r}: {type(error).__qualname__} at change "
            f"{attempts.change_id}, attempt {attempts.count} of {self._stream.max_attempts}"
        )

    def _count_attempt(self, change: Change, *, alone: bool, open: bool = False) -> None:  # noqa: A002
        counted = one_more(self._progress.attempts, change_id(change), self._now_ms(), alone=alone)
        self._progress.attempts = replace(counted, open=open)

    def _left_s(self) -> float:
        return self._budget.left_s(self._ports.clock.monotonic_s())

    def _is_spent(self) -> bool:
        return self._left_s() <= 0

    def _now_ms(self) -> int:
        return self._ports.clock.time_ms()
