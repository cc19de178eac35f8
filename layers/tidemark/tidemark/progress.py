"""What a run has delivered, and when that is stored."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bson.datetime_ms import DatetimeMS

from tidemark.lease import HeldLease
from tidemark.model import (
    NO_ATTEMPTS,
    Attempts,
    Change,
    Checkpoint,
    Gap,
    Position,
    Token,
)
from tidemark.ports import Clock

PROOF_OF_QUIET = 2  # empty answers in a row


class Progress:
    """The position of one run: it moves only over what was delivered or set aside (G1).

    `latest` is where the stream continues if the run goes on, `stored` where it continues if the
    run dies now; None before the very first position. `attempts` are those of the change behind
    `latest`.
    """

    def __init__(
        self, held: HeldLease, clock: Clock, stored: Checkpoint | None, attempts: Attempts
    ) -> None:
        self.latest = self.stored = stored
        self.attempts = attempts
        self.holds_changes = False
        self._redefinition: dict[str, Any] = {}
        self._held = held
        self._clock = clock
        self._saved_at_s = clock.monotonic_s()

    @property
    def position(self) -> Position:
        """The latest position. Only after there is one."""
        return self._known().position

    def delivered(self, changes: Sequence[Change]) -> None:
        """Move behind the last of `changes`, each delivered or durably set aside."""
        if not changes:
            return
        self.holds_changes = True
        self.attempts = NO_ATTEMPTS
        self.passed(changes[-1])

    def passed(self, change: Change) -> None:
        """Move behind `change`: delivered, or an invalidate that the pipeline hides."""
        self._move(
            change["_id"],
            cluster_time=change.get("clusterTime"),
            change_wall_time_ms=wall_time_ms(change),
            behind_invalidate=change.get("operationType") == "invalidate",
        )

    def moved_to(self, token: Token) -> None:
        """Move to a token behind which nothing that was read is undelivered (G6)."""
        known = self._known()
        stays = token == known.position.resume_token
        self._move(token, behind_invalidate=known.behind_invalidate and stays)

    def redefine(self, definition: str, fingerprint: str) -> None:
        """Let the position belong to another definition once the stream was read by it (G10)."""
        self._redefinition = {"definition": definition, "fingerprint": fingerprint}

    def begin(self, checkpoint: Checkpoint) -> None:
        """Store a position that this run did not come to by delivering."""
        self.latest = checkpoint
        self.save()

    def save_if_due(self, interval_s: float) -> None:
        """Store what `checkpoint_due` says is due."""
        if checkpoint_due(
            holds_changes=self.holds_changes,
            since_last_s=self._clock.monotonic_s() - self._saved_at_s,
            interval_s=interval_s,
            renewal_due=self._held.renewal_due(),
        ):
            self.save()

    def save(self) -> None:
        """Store the latest position with its attempts, and lengthen the lease by the same write."""
        checkpoint = self._unsaved()
        self._held.save(checkpoint, self.attempts)
        self._mark_saved(checkpoint)

    def skip(self, checkpoint: Checkpoint, gap: Gap) -> None:
        """Store a position behind a gap together with the gap's record (G7)."""
        stamped = replace(checkpoint, checkpointed_at_ms=self._clock.time_ms())
        self._held.save_gap(stamped, gap)
        self.latest, self.attempts = stamped, NO_ATTEMPTS
        self._mark_saved(stamped)

    def release(self) -> None:
        """Store the latest position and give the lease back, in one write."""
        checkpoint = self._unsaved()
        self._held.release(checkpoint, self.attempts)
        self._mark_saved(checkpoint)

    def halt(self, reason: str) -> None:
        """Store the latest position, halt the stream and give the lease back, in one write."""
        checkpoint = self._unsaved()
        self._held.halt(checkpoint, self.attempts, reason=reason)
        self._mark_saved(checkpoint)

    def _move(self, token: Token, **values: Any) -> None:
        position = Position(resume_token=token)
        self.latest = replace(self._known(), position=position, **self._redefinition, **values)

    def _known(self) -> Checkpoint:
        if self.latest is None:
            raise AssertionError("no position yet: a run stores one before it reads")
        return self.latest

    def _unsaved(self) -> Checkpoint | None:
        if self.latest is None or self.latest == self.stored:
            return None
        return replace(self.latest, checkpointed_at_ms=self._clock.time_ms())

    def _mark_saved(self, checkpoint: Checkpoint | None) -> None:
        self._saved_at_s = self._clock.monotonic_s()
        if checkpoint is not None:
            self.latest = self.stored = checkpoint
            self.holds_changes = False


def checkpoint_due(
    *, holds_changes: bool, since_last_s: float, interval_s: float, renewal_due: bool
) -> bool:
    """Whether progress should be stored now.

    Delivered changes: at most each `interval_s`, and before the lease could expire. A quiet
    stretch: with the lease's renewals only.
    """
    return renewal_due or (holds_changes and since_last_s >= interval_s)


def wall_time_ms(change: Change) -> int | None:
    """When the change happened, ms since the epoch: `wallTime`, `clusterTime` on older servers."""
    wall: Any = change.get("wallTime")
    if isinstance(wall, datetime):
        return int(wall.replace(tzinfo=wall.tzinfo or UTC).timestamp() * 1000)
    if isinstance(wall, DatetimeMS):
        return int(wall)
    cluster = change.get("clusterTime")
    return None if cluster is None else cluster.time * 1000


def lag_ms(
    checkpoint: Checkpoint | None, *, now_ms: int, empty_reads: int, changes: int
) -> int | None:
    """How far behind a run ended: now less the time of the last change; 0 when caught up.

    One empty answer does not prove that the stream is caught up (the server may be scanning an
    oplog that holds nothing for us), but it says that the last change's age is no lag either: None.
    """
    if empty_reads >= PROOF_OF_QUIET:
        return 0
    happened = checkpoint.change_wall_time_ms if checkpoint else None
    if happened is None or (empty_reads and not changes):
        return None
    return max(0, now_ms - happened)
