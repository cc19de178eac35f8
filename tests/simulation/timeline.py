"""Several runs side by side in simulated time: whoever would wake first runs next.

Each actor is a thread that sleeps on the timeline; exactly one is awake, so that twenty minutes
pass in a second, and always in the same way.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH_MS = 1_800_000_000_000


@dataclass(order=True)
class _Wake:
    at_s: float
    order: int
    awake: threading.Semaphore = field(compare=False)


class Timeline:
    """A `Clock` for every actor; time passes only while all of them sleep."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[_Wake] = []
        self._asleep = threading.Semaphore(0)
        self.failures: list[BaseException] = []

    def monotonic_s(self) -> float:
        """Simulated seconds since the beginning."""
        return self._now_s

    def time_ms(self) -> int:
        """Simulated milliseconds since the epoch."""
        return EPOCH_MS + int(self._now_s * 1000)

    def sleep_s(self, seconds: float) -> None:
        """Let the other actors run until `seconds` have passed."""
        awake = self._wake_at(self._now_s + seconds)
        self._asleep.release()
        awake.acquire()

    def start_at(self, at_s: float, act: Callable[[], object]) -> None:
        """Have an actor do `act` from `at_s` on."""
        awake = self._wake_at(at_s)

        def work() -> None:
            awake.acquire()
            try:
                act()
            except BaseException as failure:  # an actor's failure is the test's
                self.failures.append(failure)
            finally:
                self._asleep.release()

        threading.Thread(target=work, daemon=True).start()

    def run(self) -> None:
        """Wake one sleeper after the other until none is left."""
        while self._sleepers:
            wake = heapq.heappop(self._sleepers)
            self._now_s = wake.at_s
            wake.awake.release()
            self._asleep.acquire()

    def _wake_at(self, at_s: float) -> threading.Semaphore:
        awake = threading.Semaphore(0)
        heapq.heappush(self._sleepers, _Wake(at_s, next(self._order), awake))
        return awake
