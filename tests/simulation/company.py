"""Two streams of one process: a change of the one that kills it is never the other's fault.

Whoever delivers what may kill the process holds `Ports.one_suspect`: without it an innocent change
that was being delivered just then would be blamed, and set aside. A first kill may still meet one:
that is why it takes `max_attempts` of them, here fewer than by default.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from fakes import ManualClock
from simulation.replay import Player, Violated
from simulation.schedule import Terms, Write
from simulation.world import World

if TYPE_CHECKING:
    from simulation.process import Process
    from simulation.truth import Figures

RUNS = 16
MOST_STEPS = 400
TERMS = Terms(max_changes=1, server_batch=1, max_attempts=3)


class Suspect:
    """The lock of one process, as `threading.Lock` is, for runs that move only when told to."""

    def __init__(self) -> None:
        self.holder: Process | None = None

    def acquire(self, process: Process, timeout_s: float) -> bool:
        """Wait for the lock; whether it was had in time."""
        while self.holder is not None:
            if timeout_s <= 0:
                return False
            process.sleep_s(0.5)
            timeout_s -= 0.5
        self.holder = process
        return True


class SuspectOf:
    """The lock as one run sees it."""

    def __init__(self, suspect: Suspect, process: Process) -> None:
        self._suspect = suspect
        self._process = process

    def acquire(self, timeout: float) -> bool:
        """See `threading.Lock`."""
        return self._suspect.acquire(self._process, timeout)

    def release(self) -> None:
        """See `threading.Lock`."""
        self._suspect.holder = None


def play_company(seed: int) -> Figures:
    """A stream with a killer, and one without, in one process after the other. Raises Violated."""
    random, clock = Random(seed), ManualClock()
    guilty, innocent = World(TERMS, clock=clock), World(TERMS, clock=clock)
    for _ in range(6):
        Player(innocent).do(Write())
        Player(guilty).do(Write("killer" if not guilty.source.end else "ok"))
    worlds = (guilty, innocent)

    def keep_all(_: float) -> None:
        for world in worlds:
            world.keep_all()

    clock.on_sleep = keep_all
    for _ in range(RUNS):
        _run_together(guilty, innocent, random)
        clock.advance_s(60)
    if innocent.letters.letters or len(guilty.letters.letters) > 1:
        raise Violated(f"G1: an innocent change was set aside (company of seed {seed})")
    if owed := guilty.truth.owed() + innocent.truth.owed():
        raise Violated(f"liveness: {RUNS} runs left {owed} (company of seed {seed})")
    figures = guilty.truth.figures + innocent.truth.figures
    figures.schedules = 0
    return figures


def _run_together(guilty: World, innocent: World, random: Random) -> None:
    """One invocation of both streams, in steps; one process dies as a whole."""
    suspect = Suspect()
    guilty.suspect_of = innocent.suspect_of = lambda process: SuspectOf(suspect, process)
    processes = [guilty.start(0), innocent.start(0)]
    for _ in range(MOST_STEPS):
        alive = [process for process in processes if not process.is_over]
        if not alive:
            return
        random.choice(alive).go_on(random.randint(1, 3))
        if any(process.is_dead for process in processes):
            for process in processes:
                process.kill()
