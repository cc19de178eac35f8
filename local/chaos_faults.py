"""What goes wrong, at moments that the seed gives: kills, freezes, a MongoDB that refuses."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pymongo.errors import OperationFailure

if TYPE_CHECKING:
    import random
    import threading
    from collections.abc import Sequence

    from pymongo import MongoClient

    from chaos import Options
    from chaos_containers import Pair

LEASE_S = 5  # the shortest that is allowed
KILL_EVERY_S = (0.5, 5.0)
KILL_AMID = 0.6  # the share of kills that wait for a delivery under way
DELIVERY_WITHIN_S = 8.0
FREEZE_EVERY_S = (4.0, 15.0)
FROZEN_S = (5.2, 7.0)  # behind the end of every lease
LOOK_S = 0.004
FAILPOINT_EVERY_S = (0.5, 3.0)
# InterruptedAtShutdown, InterruptedDueToReplStateChange, PrimarySteppedDown, ShutdownInProgress,
# NotWritablePrimary, NotPrimaryNoSecondaryOk, CursorNotFound, HostUnreachable, NetworkTimeout
CODES = (11600, 11602, 189, 91, 10107, 13435, 43, 6, 89)
RESUMABLE = "ResumableChangeStreamError"
COMMANDS = (["aggregate"], ["getMore"], ["aggregate", "getMore"])


def kill(pair: Pair, chance: random.Random, stop: threading.Event) -> None:
    """Send SIGKILL to one of the two containers or to its runtime, again and again."""
    while not stop.wait(chance.uniform(*KILL_EVERY_S)):
        if chance.random() < KILL_AMID:
            await_delivery(pair, stop)
        pair.kill(chance.choice(pair.slots), whole=chance.random() < 0.5)


def await_delivery(pair: Pair, stop: threading.Event) -> bool:
    """Whether a line was written just now; False if none comes in time."""
    before, give_up_s = pair.delivered_bytes, time.monotonic() + DELIVERY_WITHIN_S
    while pair.delivered_bytes <= before:
        if stop.wait(LOOK_S) or time.monotonic() > give_up_s:
            return False
    return True


@dataclass
class Freezer:
    """Stops the process that delivers, until another may read its stream, and lets it go on."""

    pair: Pair
    chance: random.Random
    froze: int = 0

    def run(self, stop: threading.Event) -> None:
        """Freeze again and again; nobody stays frozen."""
        while not stop.wait(self.chance.uniform(*FREEZE_EVERY_S)):
            pid = self.pair.last_delivery().get("pid") if await_delivery(self.pair, stop) else None
            if pid is not None and _signal(pid, signal.SIGSTOP):
                self.pair.note_frozen(pid)
                stop.wait(self.chance.uniform(*FROZEN_S))
                self.froze += _signal(pid, signal.SIGCONT)


def freezers(pairs: Sequence[Pair], options: Options) -> list[Freezer]:
    """One for each pair whose invocations outlive a lease: others would not live to be thawed."""
    return [
        Freezer(pair, options.chance(f"freezer {number}"))
        for number, pair in enumerate(pairs)
        if pair.timeout_s > LEASE_S + 2
    ]


def _signal(pid: int, number: signal.Signals) -> bool:
    """Whether the process was still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


@dataclass
class Failpoints:
    """Makes the server close connections and refuse to read, for a request or three."""

    client: MongoClient[dict[str, Any]]
    chance: random.Random
    armed: int = 0
    refused: str = ""
    """Why the server knows no failpoints; a real one must be started with enableTestCommands."""
    _codes: Sequence[int] = field(default=CODES)

    def run(self, stop: threading.Event) -> None:
        """Arm one after the other; the last is taken away."""
        try:
            while not stop.wait(self.chance.uniform(*FAILPOINT_EVERY_S)):
                self._arm()
            self._configure("off", {})
        except OperationFailure as error:
            self.refused = f"code {error.code}"

    def _arm(self) -> None:
        times = self.chance.randint(1, 3)
        self._configure(
            {"times": times}, {"failCommands": self.chance.choice(COMMANDS)} | self._how()
        )
        self.armed += 1

    def _how(self) -> dict[str, Any]:
        if self.chance.random() < 0.4:
            return {"closeConnection": True}
        labels = [RESUMABLE] if self.chance.random() < 0.6 else []
        return {"errorCode": self.chance.choice(self._codes), "errorLabels": labels}

    def _configure(self, mode: object, data: dict[str, Any]) -> None:
        self.client.admin.command("configureFailPoint", "failCommand", mode=mode, data=data)
