"""Finding the position to open at: the first one, and after what cannot be read (G7, G10).

A position is never given up in silence: every jump is stored together with the record of its gap,
counted, and logged at error level.

An invalidate is known by the closed cursor, not by the user's fields. Its own token is in the
closing answer; where a server does not tell it there, the invalidate is looked up by a pipeline of
our own, from a position that is certainly before it (`Progress.before`).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeGuard

from bson.timestamp import Timestamp

from tidemark.budget import Budget
from tidemark.errors import (
    DefinitionChanged,
    HistoryLost,
    SourceRefused,
    SourceUnavailable,
    StreamInvalidated,
    TidemarkError,
    TokenRefused,
)
from tidemark.model import Change, Checkpoint, Deployment, Gap, Position
from tidemark.ports import Ports, ReadLimits
from tidemark.progress import Progress
from tidemark.settings import StreamSettings

CANNOT_GO_ON = 280  # ChangeStreamFatalError
TOKEN_REFUSED = {
    9,  # FailedToParse, as Amazon DocumentDB says it
    260,  # InvalidResumeToken, of `resume_after`
    CANNOT_GO_ON,
    40415,  # unknown option: no `start_after`
}
CLOSE_S = 1.0
TRIAL_S = 5.0  # for a server to say that it no longer has a position
LEAST_S = 0.1  # a timeout of 0 would mean none

Reason = Literal[
    "history_lost",
    "invalidate_refused",
    "definition_changed",
    "deployment_changed",
    "token_refused",
]


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a stored position is given up; `code` is the server's error code."""

    reason: Reason
    code: int | None = None


class Recovery:
    """Step 2's decisions for one run of one stream.

    After `begin` the progress has a position. `go_on_after` moves it past an error, or raises it.
    """

    def __init__(
        self, stream: StreamSettings, ports: Ports, budget: Budget, progress: Progress
    ) -> None:
        self.gaps = 0
        self._stream = stream
        self._ports = ports
        self._budget = budget
        self._progress = progress
        self._judged: Deployment | None = None
        self._is_first = False
        self._after_invalidate: Position | None = None

    def begin(self) -> None:
        """Store a first position, or judge whether the stored one is of this definition (G10).

        Once a deployment: a repeat does nothing. Raises DefinitionChanged and the source's and the
        store's errors.
        """
        deployment = self._ports.source.deployment(timeout_s=self._left_s())
        if deployment == self._judged:
            return
        latest = self._progress.latest
        if latest is None:
            self._progress.know(deployment)
            self._begin_first()
        else:
            self._take_up(latest, deployment.set_name)
            self._progress.know(deployment)
        self._judged = deployment

    def require_same_deployment(self) -> None:
        """Raise SourceUnavailable where a stream was opened on another server than was judged.

        A client that is made anew may lead elsewhere: nothing is read there before it is judged.
        """
        deployment = self._ports.source.deployment(timeout_s=self._left_s())
        if self._judged is None or deployment.set_name != self._judged.set_name:
            raise SourceUnavailable(
                f"stream {self._stream.name!r}: the connection leads to another deployment now"
            )
        self._progress.know(deployment)

    def go_on_after(self, error: TidemarkError) -> None:
        """Move the position past `error` by the stream's policy; raise it where there is none."""
        if isinstance(error, StreamInvalidated):
            self._pass_invalidate(error)
        elif _refuses_token(error) and self._is_after_invalidate():
            self._leave_invalidate(error)
        elif isinstance(error, HistoryLost):
            self._lose_history(error)
        elif self._may_restart(error):
            self._jump(
                Loss("token_refused", CANNOT_GO_ON), self._position_of(self._stream.start_at)
            )
        else:
            raise error

    # ---------------------------------------------------------------------- where a run begins

    def _begin_first(self) -> None:
        self._is_first = True
        position = self._position_of(self._stream.start_at)
        self._progress.begin(self._at(position, unopened=True))

    def _take_up(self, stored: Checkpoint, set_name: str | None) -> None:
        """Go on at `stored`, unless it belongs to another definition or deployment."""
        if stored.behind_invalidate:
            self._after_invalidate = stored.position
        if None not in (stored.deployment, set_name) and stored.deployment != set_name:
            self._change(Loss("deployment_changed"), self._other_deployment(stored, set_name))
        elif stored.fingerprint == self._stream.fingerprint:
            return
        elif stored.unopened:
            self._progress.redefine(self._definition(), self._stream.fingerprint)
        else:
            self._change(Loss("definition_changed"), self._other_definition(stored))

    def _change(self, loss: Loss, refusal: str) -> None:
        """Let `on_definition_change` decide on a position that belongs to something else."""
        policy = self._stream.on_definition_change
        if policy == "refuse":
            raise DefinitionChanged(refusal)
        if policy == "resume":
            self._progress.redefine(self._definition(), self._stream.fingerprint)
        else:
            start = self._position_of(self._stream.start_at)
            self._jump(loss, start, unopened=True)

    def _other_definition(self, stored: Checkpoint) -> str:
        return (
            f"stream {self._stream.name!r}: the stored position belongs to another definition; "
            f"stored: {stored.definition}; configured: {self._definition()}. Restore it, or "
            'choose on_definition_change = "resume" or "restart"'
        )

    def _other_deployment(self, stored: Checkpoint, set_name: str | None) -> str:
        return (
            f"stream {self._stream.name!r}: the stored position is of the replica set "
            f"{stored.deployment!r}, and the server is of {set_name!r}: a token of another "
            "deployment may be taken and skip changes in silence. Connect to the former, or choose "
            'on_definition_change = "restart", or "resume" where it is the same data under a new '
            "set name"
        )

    # ---------------------------------------------------------------------- past an invalidate

    def _pass_invalidate(self, closed: StreamInvalidated) -> None:
        """Store the position just after the invalidate: the stream goes on there."""
        token, found = closed.token, None
        if token is None:
            try:
                found = self._next_invalidate(self._where_to_search())
            except HistoryLost as lost:  # where the search begins is lost, though not the position
                if not self._progress.keeps_before:
                    raise  # the next run's search begins at the position
                self._lose_history(lost)
                return
            token = found["_id"] if found else None
        if token is None or self._leads_nowhere(token):
            self._leave(Loss("invalidate_refused"), lambda: _right_after(found))
            return
        self._progress.pass_invalidate(token, found["clusterTime"] if found else None)
        self._progress.save()
        self._after_invalidate = self._progress.position
        self._ports.telemetry.event("stream.invalidated", position=str(self._after_invalidate))

    def _leads_nowhere(self, token: object) -> bool:
        """Whether the stream was opened after this very invalidate, and closed by it again."""
        after = self._after_invalidate
        return after is not None and after.resume_token == token

    def _is_after_invalidate(self) -> bool:
        """Whether the position is an invalidate's own token, as far as that can be known."""
        position = self._progress.position
        if position == self._after_invalidate:
            return True
        if not self._progress.keeps_before or position.resume_token is None:
            return False
        try:
            found = self._invalidate()
        except HistoryLost:
            return False
        return found is not None and found["_id"] == position.resume_token

    def _where_to_search(self) -> Position | None:
        """A position before the invalidate that has closed the stream.

        One that was passed and opened is behind us: the next comes after it.
        """
        position = self._progress.position
        return position if position == self._after_invalidate else self._progress.before

    def _invalidate(self) -> Change | None:
        """The invalidate at the position, looked up from what is certainly before it."""
        return self._next_invalidate(self._progress.before)

    def _next_invalidate(self, after: Position | None) -> Change | None:
        if after is None:
            return None
        return self._ports.source.next_invalidate(self._stream, after, timeout_s=self._left_s())

    def _leave_invalidate(self, error: HistoryLost | SourceRefused) -> None:
        """Go on right after the invalidate whose token was refused, by its time."""
        looked_up = not self._knows_its_time()
        self._leave(
            Loss("invalidate_refused", error.code),
            lambda: _right_after(self._invalidate()) if looked_up else None,
        )

    def _leave(self, loss: Loss, right_after: Callable[[], Position | None]) -> None:
        """Jump to right after the invalidate, as far as that can be known."""
        try:
            to = right_after() or self._known_right_after()
        except HistoryLost as lost:  # also where it could have been looked up: the policy decides
            self._lose_history(lost)
        else:
            self._jump(loss, to)

    def _knows_its_time(self) -> bool:
        """Whether the stored time is the invalidate's own, as it was looked up when it was met."""
        return self._progress.keeps_before and self._progress.position == self._after_invalidate

    def _known_right_after(self) -> Position:
        """Right after the stored time: an item of the first edition has no more to go by."""
        latest = self._progress.latest
        if latest is None or latest.cluster_time is None:
            raise HistoryLost(
                f"stream {self._stream.name!r}: the server does not open after an invalidate, and "
                "the time of it is not known: where it goes on is for on_history_lost to say"
            )
        return _after(latest.cluster_time)

    # ---------------------------------------------------------------------- what the server lost

    def _lose_history(self, error: HistoryLost) -> None:
        if self._stream.start_at == "earliest" and self._was_never_opened():
            self._begin_later(error)
            return
        policy, reason = self._stream.on_history_lost, f"history lost (server code {error.code})"
        if self.gaps and policy != "earliest":
            raise error
        if policy == "halt":
            self._progress.halt(reason)
            raise error
        to = self._position_of(policy)
        if isinstance(policy, Timestamp) and not self._leads_on(policy):
            time = policy.as_datetime().isoformat()
            self._progress.halt(f"{reason}; on_history_lost = {time} is not ahead, or lost as well")
            raise error
        self._jump_ahead(error, to)

    def _was_never_opened(self) -> bool:
        latest = self._progress.latest
        return latest is not None and latest.unopened

    def _begin_later(self, error: HistoryLost) -> None:
        """Begin at what is the oplog's first entry now: the former one was cut off meanwhile.

        In the run that stored the first position nothing was promised yet, and no gap is recorded.
        """
        earliest = self._position_of("earliest")
        if not self._is_first:
            self._jump_ahead(error, earliest)
        elif earliest == self._progress.position:
            raise error
        else:
            self._progress.begin(self._at(earliest, unopened=True))

    def _jump_ahead(self, error: HistoryLost, to: Position) -> None:
        """Jump over what is lost: never twice to one place, which would bring nothing."""
        if self.gaps and to == self._progress.position:
            raise error
        self._jump(Loss("history_lost", error.code), to)

    def _leads_on(self, time: Timestamp) -> bool:
        """Whether `time` is ahead of what is lost, and the server still has it.

        A fixed time is both only for a while: then each run would go back to it.
        """
        latest = self._progress.latest
        lost = latest and (latest.position.operation_time or latest.cluster_time)
        if lost is not None and time <= lost:
            return False
        return self._has(Position(operation_time=time))

    def _has(self, position: Position) -> bool:
        """Whether the server still has `position`: it may say so at the first read only."""
        timeout_s = min(TRIAL_S, self._left_s())
        try:
            tried = self._ports.source.open(
                self._stream, position, timeout_s=timeout_s, batch_size=1
            )
            try:
                tried.read(ReadLimits(max_changes=1), timeout_s=timeout_s)
            finally:
                tried.close(timeout_s=CLOSE_S)
        except HistoryLost:
            return False
        return True

    def _may_restart(self, error: TidemarkError) -> bool:
        """Whether the server cannot go on from the token, and the policy gives it up for that."""
        return (
            isinstance(error, TokenRefused)
            and self._stream.on_definition_change == "restart"
            and self._progress.position.resume_token is not None
            and not self.gaps
        )

    def _jump(self, loss: Loss, to: Position, *, unopened: bool = False) -> None:
        """Give the position up for `to`, with the gap's record in the same write (G7)."""
        left = self._progress.latest
        gap = Gap(
            stream=self._stream.name,
            reason=loss.reason,
            code=loss.code,
            recorded_at_ms=self._ports.clock.time_ms(),
            definition=self._definition(),
            from_checkpoint=left,
            to_position=to,
        )
        self._progress.skip(self._at(to, unopened=unopened), gap)
        self._after_invalidate = None
        self.gaps += 1
        self._ports.telemetry.error(
            "gap.recorded",
            reason=loss.reason,
            code=loss.code,
            from_position=str(left.position) if left else None,
            from_wall_time_ms=left.change_wall_time_ms if left else None,
            to_position=str(to),
        )

    def _position_of(self, start: str | Timestamp) -> Position:
        if isinstance(start, Timestamp):
            return Position(operation_time=start)
        source = self._ports.source
        return (source.earliest if start == "earliest" else source.now)(timeout_s=self._left_s())

    def _at(self, position: Position, *, unopened: bool = False) -> Checkpoint:
        return Checkpoint(
            position,
            self._definition(),
            self._stream.fingerprint,
            deployment=self._progress.set_name,
            unopened=unopened,
        )

    def _definition(self) -> str:
        return json.dumps(self._stream.definition)

    def _left_s(self) -> float:
        return max(LEAST_S, self._budget.left_s(self._ports.clock.monotonic_s()))


def _right_after(invalidate: Change | None) -> Position | None:
    """Right after an invalidate that was looked up, by its time: no pipeline has touched it."""
    return None if invalidate is None else _after(invalidate["clusterTime"])


def _after(time: Timestamp) -> Position:
    return Position(operation_time=Timestamp(time.time, time.inc + 1))


def _refuses_token(error: TidemarkError) -> TypeGuard[HistoryLost | SourceRefused]:
    """Whether the server says that it cannot open at the token.

    Credentials are another matter, and so is a token that has left the oplog: the policy decides.
    """
    return isinstance(error, HistoryLost | SourceRefused) and error.code in TOKEN_REFUSED
