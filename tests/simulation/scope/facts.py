"""What is true of a server whatever was done to it: asking for it is no step of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bson.timestamp import Timestamp

from simulation.scope.cases import EPOCH_MS
from tidemark.model import Deployment, OplogWindow

if TYPE_CHECKING:
    from fakes import ScriptedSource
    from tidemark.model import Position

BEFORE_ALL = Timestamp(1, 0)


def second_of(entries: int) -> int:
    """The server's clock: a second passes with each entry, so that lag has something to count."""
    return EPOCH_MS // 1000 + entries


class Facts:
    """Facts of a scripted source. `oplog_window` is no such thing, but nothing judges headroom."""

    def __init__(self, source: ScriptedSource) -> None:
        self._source = source

    def deployment(self, *, timeout_s: float) -> Deployment:  # noqa: ARG002 - it never stalls
        """See `ports.Source`."""
        return Deployment(self._source.traits.set_name, self._source.traits.start_after)

    def oplog_window(self, *, timeout_s: float) -> OplogWindow:  # noqa: ARG002 - it never stalls
        """See `ports.Source`."""
        return OplogWindow(None, "headroom is not judged here")

    def time_of(self, position: Position) -> Timestamp | None:
        """See `ports.Source`: also of an entry that is not written in the world just looked at."""
        if position.operation_time is not None:
            return position.operation_time
        if not self._source.traits.token_times:
            return None
        index = self._source.index_of(position)
        return Timestamp(second_of(index - 1), 1) if index else BEFORE_ALL
