"""Time that passes only when somebody waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH_MS = 1_800_000_000_000


class ManualClock:
    """The true time. Its containers' clocks may be wrong, or stand still.

    `on_sleep` is called with each wait's seconds after they have passed: a test's own interruption.
    """

    def __init__(self, time_ms: int = EPOCH_MS) -> None:
        self.on_sleep: Callable[[float], None] = lambda _: None
        self._now_ms = float(time_ms)
        self._start_ms = float(time_ms)

    def monotonic_s(self) -> float:
        """Seconds since the clock was made."""
        return (self._now_ms - self._start_ms) / 1000

    def time_ms(self) -> int:
        """Milliseconds since the epoch."""
        return int(self._now_ms)

    def sleep_s(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self.advance_s(seconds)
        self.on_sleep(seconds)

    def advance_s(self, seconds: float) -> None:
        """Let time pass without anybody waiting for it."""
        self._now_ms += max(0.0, seconds) * 1000

    def container(self, *, skew_ms: int = 0) -> ContainerClock:
        """The clock of one container, `skew_ms` ahead of the true time."""
        return ContainerClock(self, skew_ms)


class ContainerClock:
    """What one container believes the time to be."""

    def __init__(self, true: ManualClock, skew_ms: int) -> None:
        self.skew_ms = skew_ms
        self._true = true
        self._stood_still_s = 0.0

    def monotonic_s(self) -> float:
        """Seconds that the container was awake, or all where its clock runs on while frozen."""
        return self._true.monotonic_s() - self._stood_still_s

    def time_ms(self) -> int:
        """The true time with the container's skew."""
        return self._true.time_ms() + self.skew_ms

    def sleep_s(self, seconds: float) -> None:
        """Let `seconds` pass for everybody."""
        self._true.sleep_s(seconds)

    def advance_s(self, seconds: float) -> None:
        """Let time pass without anybody waiting for it."""
        self._true.advance_s(seconds)

    def freeze_s(self, seconds: float, *, monotonic_stops: bool = True) -> None:
        """Freeze the container for `seconds` of true time, and thaw it."""
        self._true.advance_s(seconds)
        if monotonic_stops:
            self._stood_still_s += seconds
