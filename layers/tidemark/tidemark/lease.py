"""The right to read one stream, as its holder counts it (G4).

    request sent ──────────────── lease as DynamoDB has it ────────────────▶ expires_at_ms
    request sent ───── the holder's own right ─────▶ 2 s for the clocks' skew

The right is counted from *before* the request was sent, on the monotonic clock; the wall clock can
only end it sooner (a container that was frozen may find its monotonic clock stopped meanwhile).
"""

import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from tidemark.errors import LeaseLost
from tidemark.model import Acquired, Attempts, Checkpoint, Gap, NotAcquired
from tidemark.ports import CheckpointStore, Clock

SKEW_MS = 2_000
OWN_RENEWAL_SHARE = 0.5  # of the holder's own right used: the worker's next write is due
KEEPER_RENEWAL_SHARE = 0.65  # the worker is busy: somebody else renews


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long a lease lasts: `lease_ms`, but never past the invocation by more than the skew."""

    lease_ms: int
    deadline_ms: int

    def expiry_ms(self, now_ms: int) -> int:
        """When a lease written at `now_ms` ends."""
        return min(now_ms + self.lease_ms, self.deadline_ms + SKEW_MS)


class HeldLease:
    """One run's lease: every write of the run goes through it and extends it.

    Its methods may be called from the worker and from the supervisor: neither a renewal nor a save
    follows a release. Each raises LeaseLost where another run has taken the lease, and
    StoreUnavailable or StoreRefused.
    """

    def __init__(
        self, store: CheckpointStore, clock: Clock, terms: LeaseTerms, acquired: Acquired
    ) -> None:
        self.lease = acquired.lease
        self._store = store
        self._clock = clock
        self._terms = terms
        self._writing = threading.Lock()
        self._released = False
        self._lost = False

    @classmethod
    def take(
        cls, store: CheckpointStore, clock: Clock, terms: LeaseTerms, stream: str
    ) -> tuple["HeldLease", Acquired] | NotAcquired:
        """Take the lease of `stream` for a fresh owner and read its item, in one request."""
        sent_s, sent_ms = clock.monotonic_s(), clock.time_ms()
        expiry = terms.expiry_ms(sent_ms)
        answer = store.acquire(stream, str(uuid.uuid4()), now_ms=sent_ms, expires_at_ms=expiry)
        if isinstance(answer, NotAcquired):
            return answer
        held = cls(store, clock, terms, answer)
        held._extend(sent_s, sent_ms, expiry)
        return held, answer

    def is_ours(self) -> bool:
        """Whether this run may still read and deliver, by its own clocks."""
        return (
            not self._lost
            and not self._released
            and self._clock.monotonic_s() < self._ours_until_s
            and self._clock.time_ms() < self._ours_until_ms
        )

    @property
    def ours_until_s(self) -> float:
        """When the right ends as it stands, on the monotonic clock; a renewal moves it."""
        return self._ours_until_s

    @property
    def is_over(self) -> bool:
        """Whether this run gave the lease back, or knows that it has lost it."""
        return self._released or self._lost

    def require(self) -> None:
        """Raise LeaseLost unless the lease is still ours."""
        if not self.is_ours():
            raise LeaseLost(f"stream {self.lease.stream!r}: this run has outlived its lease")

    def renewal_due(self, share: float = OWN_RENEWAL_SHARE) -> bool:
        """Whether `share` of the holder's own right is used and a renewal would lengthen it.

        Not of the lease: the right to a short one has ended before most of the lease is used.
        """
        now_ms = self._clock.time_ms()
        used = now_ms - self._extended_at_ms
        right = self._ours_until_ms - self._extended_at_ms
        return used >= share * right and self._terms.expiry_ms(now_ms) > self._expires_at_ms

    def renew(self) -> None:
        """Lengthen the lease, unless a write that does so is under way or it is released."""
        if not self._writing.acquire(blocking=False):
            return
        try:
            if not self._released:
                self._write(lambda expiry: self._store.renew(self.lease, expires_at_ms=expiry))
        finally:
            self._writing.release()

    def save(self, checkpoint: Checkpoint | None, attempts: Attempts) -> None:
        """Store progress; the lease is lengthened by the same write. Nothing behind a release."""
        with self._writing:
            if self._released:  # the supervisor may record a run that ends at that very moment
                return
            self._write(
                lambda expiry: self._store.save(
                    self.lease, checkpoint, attempts, expires_at_ms=expiry
                )
            )

    def save_gap(self, checkpoint: Checkpoint, gap: Gap) -> None:
        """Store a new position with the record of what it skips, both or neither (G7)."""
        with self._writing:
            self._write(
                lambda expiry: self._store.save_gap(
                    self.lease, checkpoint, gap, expires_at_ms=expiry
                )
            )

    def release(self, checkpoint: Checkpoint | None, attempts: Attempts) -> None:
        """Store the last progress and give the lease back, in one write."""
        with self._writing:
            self._released = True
            self._store.save(self.lease, checkpoint, attempts, expires_at_ms=0)

    def halt(self, checkpoint: Checkpoint | None, attempts: Attempts, *, reason: str) -> None:
        """Store the last progress, halt the stream and give the lease back, in one write."""
        with self._writing:
            self._released = True
            self._store.halt(self.lease, checkpoint, attempts, reason=reason)

    def _write(self, request: Callable[[int], None]) -> None:
        sent_s, sent_ms = self._clock.monotonic_s(), self._clock.time_ms()
        expiry = self._terms.expiry_ms(sent_ms)
        try:
            request(expiry)
        except LeaseLost:
            self._lost = True
            raise
        self._extend(sent_s, sent_ms, expiry)

    def _extend(self, sent_s: float, sent_ms: int, expiry: int) -> None:
        self._extended_at_ms, self._expires_at_ms = sent_ms, expiry
        self._ours_until_ms = expiry - SKEW_MS
        self._ours_until_s = sent_s + (self._ours_until_ms - sent_ms) / 1000
