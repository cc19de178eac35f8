"""How long each step of a run may take, of what its invocation has left (G5)."""

from tidemark.budget import Budget
from tidemark.ports import Clock

MARGIN_S = 0.1  # beyond one await: a read cut short costs the connection and the cursor
CLOSE_S = 2.0
CLOSE_SHARE = 0.4  # of what is left until the run is given up
LEAST_S = 0.1  # a timeout of 0 would mean none


class Pace:
    """One run's time; `await_s`: how long the server waits at its oplog's end."""

    def __init__(self, budget: Budget, clock: Clock, await_s: float) -> None:
        self._budget = budget
        self._clock = clock
        self._await_s = await_s

    def left_s(self) -> float:
        """Seconds until reading must stop; negative inside the reserve."""
        return self._budget.left_s(self._clock.monotonic_s())

    def has_time(self, delay_s: float = 0.0) -> bool:
        """Whether a read can wait for a whole await, perhaps after a delay."""
        return self.left_s() - delay_s > self._await_s + MARGIN_S

    def longest_age_s(self) -> float:
        """How long a batch may wait: the awaits before its first change and after its age fit."""
        return self.left_s() - 2 * self._await_s - MARGIN_S

    def close_timeout_s(self) -> float:
        """A share of the reserve of a short invocation: the release must still fit after it."""
        left_s = self._budget.abandon_s - self._clock.monotonic_s()
        return max(LEAST_S, min(CLOSE_S, left_s * CLOSE_SHARE))

    def asking_timeout_s(self) -> float | None:
        """How long a run may ask for what nobody waits for; None where time is short."""
        timeout_s = self.close_timeout_s()
        return timeout_s if timeout_s > LEAST_S else None
