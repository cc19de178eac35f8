"""What the server says beside the changes, as the driver's own monitoring tells it.

`try_next()` hides where one server batch ends and the next getMore, which may wait, begins; it
hides the time of the answer, and whether an empty answer came from a getMore or from the driver's
own resume. Command monitoring runs in the thread that runs the command, so each stream's thread
sees its own replies only. With `read_ahead` two threads read one stream by turns: each must take
every reply, or it would find it at a later turn.
"""

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bson.timestamp import Timestamp
from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from tidemark.model import Token

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer with a cursor's batch.

    `size`: how many changes it held. `is_closing`: the server closed its cursor with it. `token`:
    its post-batch resume token, None from a server that sends none. `operation_time`: the server's
    time as it answered.
    """

    is_get_more: bool
    size: int
    is_closing: bool
    token: Token | None
    operation_time: Timestamp | None

    @property
    def is_empty(self) -> bool:
        """Whether a getMore brought no change: the one answer that says something of the end."""
        return self.is_get_more and self.size == 0


@dataclass(frozen=True, slots=True)
class LeftCursor:
    """A cursor whose getMore was cut off: its scan goes on until somebody kills it."""

    cursor_id: int
    namespace: str
    address: Any


class Replies(CommandListener):
    """The last reply to the calling thread, and the cursors that it has left behind."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def take(self) -> Reply | None:
        """The reply that arrived since the last call; None where none did."""
        reply: Reply | None = getattr(self._of_thread, "reply", None)
        self._of_thread.reply = None
        return reply

    def take_left(self) -> list[LeftCursor]:
        """The cursors left behind since the last call."""
        left: list[LeftCursor] = getattr(self._of_thread, "left", [])
        self._of_thread.left = []
        return left

    def take_lost(self) -> bool:
        """Whether an opening by the driver itself got no answer since the last call."""
        lost: bool = getattr(self._of_thread, "lost", False)
        self._of_thread.lost = False
        return lost

    def started(self, event: CommandStartedEvent) -> None:
        """Remember which cursor a getMore is about."""
        if event.command_name == "getMore":
            self._of_thread.asked = LeftCursor(
                event.command["getMore"],
                f"{event.database_name}.{event.command['collection']}",
                event.connection_id,
            )

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Remember an answer that carries a cursor's batch."""
        cursor: Mapping[str, Any] | None = event.reply.get("cursor")
        if cursor is None:
            return
        self._of_thread.lost = False
        batch = cursor.get("nextBatch", cursor.get("firstBatch", ()))
        self._of_thread.reply = Reply(
            is_get_more=event.command_name == "getMore",
            size=len(batch),
            is_closing=cursor["id"] == 0,
            token=cursor.get("postBatchResumeToken"),
            operation_time=event.reply.get("operationTime"),
        )

    def failed(self, event: CommandFailedEvent) -> None:
        """Remember what got no answer; an answer with a code is the server's own end.

        The driver will not kill the cursor of such a getMore: `CommandCursor._send_message` in
        `pymongo/synchronous/command_cursor.py` takes it for closed after a network error.
        """
        if "code" in event.failure:
            return
        if event.command_name == "getMore":
            asked: LeftCursor = self._of_thread.asked
            self._of_thread.left = [*getattr(self._of_thread, "left", []), asked]
        elif event.command_name == "aggregate":
            self._of_thread.lost = True
