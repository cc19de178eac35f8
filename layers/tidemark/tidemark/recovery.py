"""Finding the position to open at: the first one, and behind what cannot be read (G7, G10).

A position is never given up in silence: every jump is stored together with the record of its gap,
counted, and logged at error level.
"""

import json
from dataclasses import dataclass
from typing import Literal, TypeGuard

from bson.timestamp import Timestamp

from tidemark.budget import Budget
from tidemark.errors import (
    DefinitionChanged,
    HistoryLost,
    SourceRefused,
    StreamInvalidated,
    TidemarkError,
)
from tidemark.model import Checkpoint, Gap, Position
from tidemark.ports import Ports
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
LEAST_S = 0.1  # a timeout of 0 would mean none


@dataclass(frozen=True, slots=True)
class Loss:
    """Why a stored position is given up; `code` is the server's error code."""

    reason: Literal["history_lost", "invalidate_refused", "definition_changed", "token_refused"]
    code: int | None = None


class Recovery:
    """Steps 2's decisions for one run of one stream.

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
        self._behind_invalidate: Position | None = None

    def begin(self) -> None:
        """Store a first position, or judge whether the stored one is of this definition (G10).

        Raises DefinitionChanged and the source's and the store's errors.
        """
        stored = self._progress.stored
        if stored is None:
            self._progress.begin(self._at(self._position_of(self._stream.start_at)))
            return
        if stored.behind_invalidate:
            self._behind_invalidate = stored.position
        if stored.fingerprint != self._stream.fingerprint:
            self._change_definition(stored)

    def go_on_after(self, error: TidemarkError) -> None:
        """Move the position past `error` by the stream's policy; raise it where there is none."""
        behind_invalidate = self._progress.position == self._behind_invalidate
        if isinstance(error, StreamInvalidated):
            self._pass_invalidate(error)
        elif behind_invalidate and _refuses_token(error):
            self._jump(Loss("invalidate_refused", error.code), self._behind_last_change())
        elif isinstance(error, HistoryLost) and not self.gaps:
            self._lose_history(error)
        elif self._may_restart(error):
            self._jump(
                Loss("token_refused", CANNOT_GO_ON), self._position_of(self._stream.start_at)
            )
        else:
            raise error

    def _pass_invalidate(self, error: StreamInvalidated) -> None:
        """Store the position just behind the invalidate: the stream goes on there."""
        if error.hidden:
            invalidate = self._ports.source.next_invalidate(
                self._stream, self._progress.position, timeout_s=self._left_s()
            )
            if invalidate is not None:
                self._progress.passed(invalidate)
        if self._progress.position == self._behind_invalidate:
            self._jump(Loss("invalidate_refused"), self._behind_last_change())
            return
        self._progress.save()
        self._behind_invalidate = self._progress.position
        self._ports.telemetry.event("stream.invalidated", position=str(self._behind_invalidate))

    def _lose_history(self, error: HistoryLost) -> None:
        policy, reason = self._stream.on_history_lost, f"history lost (server code {error.code})"
        if policy == "halt":
            self._progress.halt(reason)
            raise error
        to = self._position_of(policy)
        if isinstance(policy, Timestamp) and not self._leads_on(policy):
            time = policy.as_datetime().isoformat()
            self._progress.halt(f"{reason}; on_history_lost = {time} is not ahead, or lost as well")
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
        to = Position(operation_time=time)
        try:
            left_s = self._left_s()
            tried = self._ports.source.open(self._stream, to, timeout_s=left_s, batch_size=None)
        except HistoryLost:
            return False
        tried.close(timeout_s=CLOSE_S)
        return True

    def _may_restart(self, error: TidemarkError) -> bool:
        """Whether the server cannot go on from the token, and the policy gives it up for that."""
        return (
            isinstance(error, SourceRefused)
            and error.code == CANNOT_GO_ON
            and self._stream.on_definition_change == "restart"
            and self._progress.position.resume_token is not None
            and not self.gaps
        )

    def _change_definition(self, stored: Checkpoint) -> None:
        policy = self._stream.on_definition_change
        if policy == "refuse":
            raise DefinitionChanged(
                f"stream {self._stream.name!r}: the stored position belongs to another definition; "
                f"stored: {stored.definition}; configured: {self._definition()}. Restore it, or "
                'choose on_definition_change = "resume" or "restart"'
            )
        if policy == "resume":
            self._progress.redefine(self._definition(), self._stream.fingerprint)
        else:
            self._jump(Loss("definition_changed"), self._position_of(self._stream.start_at))

    def _jump(self, loss: Loss, to: Position) -> None:
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
        self._progress.skip(self._at(to), gap)
        self._behind_invalidate = None
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

    def _behind_last_change(self) -> Position:
        last = self._progress.latest.cluster_time if self._progress.latest else None
        if last is None:
            return self._position_of("now")
        return Position(operation_time=Timestamp(last.time, last.inc + 1))

    def _at(self, position: Position) -> Checkpoint:
        return Checkpoint(position, self._definition(), self._stream.fingerprint)

    def _definition(self) -> str:
        return json.dumps(self._stream.definition)

    def _left_s(self) -> float:
        return max(LEAST_S, self._budget.left_s(self._ports.clock.monotonic_s()))


def _refuses_token(error: TidemarkError) -> TypeGuard[HistoryLost | SourceRefused]:
    """Whether the server says that it cannot open at the token.

    Credentials are another matter, and so is a token that has left the oplog: the policy decides.
    """
    return isinstance(error, HistoryLost | SourceRefused) and error.code in TOKEN_REFUSED
