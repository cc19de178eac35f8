"""The Lambda deadline as an object, and the clock that it is read from.

now ── read, deliver ──▶ stop ── last delivery, checkpoint, close ──▶ abandon ──▶ kill
        the budget                        the reserve                  the grace
"""

import time
from dataclasses import dataclass

from tidemark.ports import Clock

RESERVE_SHARE = 0.3  # of a short invocation: a 3 s function must still read for 2 s
GRACE_SHARE = 0.4  # of the reserve
MAX_GRACE_S = 1.0


class SystemClock:
    """The machine's own clocks."""

    monotonic_s = staticmethod(time.monotonic)
    sleep_s = staticmethod(time.sleep)

    @staticmethod
    def time_ms() -> int:
        """Milliseconds since the epoch."""
        return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Budget:
    """What one invocation may spend, shared by its runs; all but `deadline_ms` monotonic seconds.

    `stop_s`: no read begins after it. `abandon_s`: whoever still works then is stuck.
    `deadline_s`: Lambda kills. `deadline_ms`: the same on the wall clock, for leases only.
    """

    stop_s: float
    abandon_s: float
    deadline_s: float
    deadline_ms: int

    @classmethod
    def of_invocation(
        cls, clock: Clock, *, remaining_ms: int, reserve_s: float, budget_s: float | None = None
    ) -> "Budget":
        """The budget of an invocation that Lambda will kill in `remaining_ms`.

        The reserve shrinks to a share of short invocations. `budget_s` shortens the reading, never
        the reserve.
        """
        now, remaining_s = clock.monotonic_s(), remaining_ms / 1000
        reserve = min(reserve_s, remaining_s * RESERVE_SHARE)
        allowed = remaining_s - reserve
        return cls(
            stop_s=now + (allowed if budget_s is None else min(budget_s, allowed)),
            abandon_s=now + remaining_s - min(MAX_GRACE_S, reserve * GRACE_SHARE),
            deadline_s=now + remaining_s,
            deadline_ms=clock.time_ms() + remaining_ms,
        )

    def end_early(self, now_s: float) -> None:
        """Let every run end from now on, with the reserve that it would have had."""
        early_s = max(0.0, self.stop_s - now_s)
        self.stop_s -= early_s
        self.abandon_s -= early_s

    def left_s(self, now_s: float) -> float:
        """Seconds until reading must stop; negative inside the reserve."""
        return self.stop_s - now_s
