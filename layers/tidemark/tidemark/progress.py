"""What a run has delivered, and when that is stored."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bson.datetime_ms import DatetimeMS
from bson.timestamp import Timestamp

from tidemark.lease import HeldLease
from tidemark.model import (
    NO_ATTEMPTS,
    Attempts,
    Change,
    Checkpoint,
    Deployment,
    Gap,
    Observed,
    Position,
    Token,
)
from tidemark.ports import Clock

TRAIL = 3


class Progress:
    """The position of one run: it moves only over what was delivered or set aside (G1).

    `latest` is where the stream continues if the run goes on, `stored` where it continues if the
    run dies now; None before the very first position. `keeps_before`: `before` is stored with each
    position. `attempts` are those of the change after `latest`.
    """

    def __init__(
        self, held: HeldLease, clock: Clock, stored: Checkpoint | None, attempts: Attempts
    ) -> None:
        self.latest = self.stored = stored
        self.observed = stored.observed if stored else None
        self.attempts = attempts
        self.holds_changes = False
        self.keeps_before = False
        self.is_sharded = False
        self.set_name = stored.deployment if stored else None
        self._opened_with: dict[str, Any] = {}
        self._trail: deque[Position] = deque(maxlen=TRAIL)  # the positions passed last
        self._held = held
        self._clock = clock
        self._saved_at_s = clock.monotonic_s()

    @property
    def position(self) -> Position:
        """The latest position. Only after there is one."""
        return self._known().position

    @property
    def before(self) -> Position | None:
        """A position certainly before the last change; None of an item that never had one.

        Two changes back: an invalidate comes with the drop before it, and some servers tell of it
        only to who begins before both. Not before an earlier invalidate, which would be found.
        """
        if self._trail:
            return self._trail[0]
        known = self._known()
        return known.before if known.before or known.behind_invalidate else known.position

    def observe(self, operation_time: Timestamp | None) -> None:
        """Note the server's time, as its last answer told it."""
        if operation_time is not None:
            self.observed = Observed(operation_time, self._clock.time_ms())

    def delivered(self, changes: Sequence[Change]) -> None:
        """Move past the last of `changes`, each delivered or durably set aside."""
        if not changes:
            return
        self.holds_changes = True
        self.attempts = NO_ATTEMPTS
        self._trail.append(self.position)
        self._trail.extend(Position(resume_token=each["_id"]) for each in changes[-TRAIL:])
        last = changes[-1]
        self._move(
            last["_id"],
            cluster_time=timestamp(last.get("clusterTime")),
            change_wall_time_ms=wall_time_ms(last),
            behind_invalidate=False,
            before=self.before if self.keeps_before else None,
        )

    def moved_to(self, token: Token) -> None:
        """Move to a token before which nothing that was read is undelivered (G6)."""
        if token == self._known().position.resume_token:
            self._move(token)  # an invalidate's own token stays one
            return
        self._move(token, behind_invalidate=False, before=None)
        self._trail.clear()

    def pass_invalidate(self, token: Token, time: Timestamp | None) -> None:
        """Move past an invalidate by its own token; `time` is its own, where it was looked up."""
        known = self._known()
        self._move(
            token,
            cluster_time=time or known.cluster_time,
            behind_invalidate=True,
            before=self.before,
        )
        self._trail.clear()

    def know(self, deployment: Deployment) -> None:
        """Take note of the server: what is stored from now on is a position of its own."""
        self.keeps_before = not deployment.start_after
        self.is_sharded = deployment.is_sharded
        if deployment.set_name is not None:
            self.set_name = self._opened_with["deployment"] = deployment.set_name

    def redefine(self, definition: str, fingerprint: str) -> None:
        """Let the position belong to another definition once the stream was read by it (G10)."""
        self._opened_with |= {"definition": definition, "fingerprint": fingerprint}

    def begin(self, checkpoint: Checkpoint) -> None:
        """Store a position that this run did not come to by delivering."""
        self._start_from(checkpoint)
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
        """Store a position after a gap together with the gap's record (G7).

        What was delivered is stored before: no release behind a lost answer may go back to it.
        """
        if self._unsaved() is not None:
            self.save()
        stamped = self._stamped(checkpoint)
        self._held.save_gap(stamped, gap)
        self._start_from(stamped)
        self.attempts = NO_ATTEMPTS
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

    def _start_from(self, checkpoint: Checkpoint) -> None:
        self.latest = checkpoint
        self._trail.clear()

    def _move(self, token: Token, **values: Any) -> None:
        position = Position(resume_token=token)
        opened = {"unopened": False} | self._opened_with
        self.latest = replace(self._known(), position=position, **opened, **values)

    def _known(self) -> Checkpoint:
        if self.latest is None:
            raise AssertionError("no position yet: a run stores one before it reads")
        return self.latest

    def _unsaved(self) -> Checkpoint | None:
        if self.latest is None or self.latest == self.stored:
            return None
        return self._stamped(self.latest)

    def _stamped(self, checkpoint: Checkpoint) -> Checkpoint:
        now_ms = self._clock.time_ms()
        return replace(checkpoint, checkpointed_at_ms=now_ms, observed=self.observed)

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
    """When the change happened, ms since the epoch: `wallTime`, `clusterTime` on older servers.

    A pipeline may have made anything of either: what is no time is None.
    """
    wall: Any = change.get("wallTime")
    if isinstance(wall, datetime):
        return int(wall.replace(tzinfo=wall.tzinfo or UTC).timestamp() * 1000)
    if isinstance(wall, DatetimeMS):
        return int(wall)
    cluster = timestamp(change.get("clusterTime"))
    return None if cluster is None else cluster.time * 1000


def timestamp(value: object) -> Timestamp | None:
    """`value` if it is a Timestamp: a pipeline may have made a date or a text of `clusterTime`."""
    return value if isinstance(value, Timestamp) else None
