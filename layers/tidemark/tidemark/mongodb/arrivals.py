"""How many changes the server's last answer held, as the driver's own monitoring tells it.

`try_next()` hides where one server batch ends and the next getMore, which may wait, begins. A
batch must be delivered before that wait. Command monitoring runs in the thread that runs the
command, so each stream's thread sees its own answers only. With `read_ahead` two threads read one
stream by turns: each must take the size of every answer, or it would find it at a later turn.
"""

import threading

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)


class Arrivals(CommandListener):
    """The size of the last batch that arrived in the calling thread."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def take(self) -> int | None:
        """The size of the batch that arrived since the last call; None where none did."""
        size: int | None = getattr(self._of_thread, "size", None)
        self._of_thread.size = None
        return size

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing: only answers count."""

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Count the changes of an answer that carries a cursor's batch."""
        cursor = event.reply.get("cursor")
        if cursor is not None:
            batch = cursor.get("nextBatch", cursor.get("firstBatch", ()))
            self._of_thread.size = len(batch)

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing: a failure brings no changes."""
