"""How far a position is behind, and how long the oplog will keep it: by the server's clock (G12).

What is not known is reported as not known. Timestamps are whole seconds with a counter: two that
differ may be up to a second further apart than their seconds say. Pure.
"""

from dataclasses import dataclass

from bson.timestamp import Timestamp

from tidemark.model import Observed, OplogWindow

UNREADABLE = "the server's resume tokens have no known form, so their time cannot be read"
NO_SERVER_TIME = "the server has told no operation time"


@dataclass(frozen=True, slots=True)
class Known:
    """A figure, or the reason why there is none."""

    value: int | None
    reason: str | None = None


def lag_ms(
    position_time: Timestamp | None, observed: Observed | None, now_ms: int, *, is_at_end: bool
) -> Known:
    """How far `position_time` is behind the server's own time, ms; never less than it is.

    The server's time is that of its last answer, and runs on by our clock since then: but not for a
    run whose last read came to the oplog's end.
    """
    if position_time is None:
        return Known(None, UNREADABLE)
    if observed is None:
        return Known(None, NO_SERVER_TIME)
    since_ms = 0 if is_at_end else max(0, now_ms - observed.at_ms)
    return Known(_between_ms(position_time, observed.operation_time) + since_ms)


def headroom_s(position_time: Timestamp | None, window: OplogWindow) -> Known:
    """How many seconds of oplog there are before `position_time`; 0 where it is at the end."""
    if window.oldest is None:
        return Known(None, window.reason)
    if position_time is None:
        return Known(None, UNREADABLE)
    return Known(max(0, position_time.time - window.oldest.time))


def _between_ms(earlier: Timestamp, later: Timestamp) -> int:
    return 0 if earlier >= later else (later.time - earlier.time + 1) * 1000
