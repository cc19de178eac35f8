"""Two containers of one function, racing for its two streams all the time."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos_record import Record
from container import Container, Function, open_container
from processes import ProcessFailedError

if TYPE_CHECKING:
    import random
    import threading
    from collections.abc import Iterator, Mapping

    from chaos import Options
    from container import Answer

CHAOS_FUNCTION = Path(__file__).with_name("chaos_function")
PAUSE_S = (0.02, 0.3)
LATELY_S = 0.1
UNDER_WAY_S = 0.05  # the invocation has reached the container by then
STARTS = 3  # a port that was free may be taken a moment later
STREAMS = ("a", "b")
STREAM = """
[[stream]]
name = "{name}"
database = "{database}"
collection = "{name}"
max_changes = 50
max_attempts = 4
"""


@dataclass(frozen=True)
class Kind:
    """How a function is set up."""

    timeout_s: int
    environment: Mapping[str, str]


# One stays for its whole short time and waits for its predecessor; the other ends when it is caught
# up, and its invocations outlive a lease, so that a frozen one wakes up as a zombie.
KINDS = (
    Kind(3, {"TIDEMARK_MODE": "linger", "TIDEMARK_ACQUIRE_WAIT_S": "0.8"}),
    Kind(12, {"TIDEMARK_MODE": "drain", "TIDEMARK_BUDGET_S": "4"}),
)


@dataclass
class Slot:
    """One container, invoked again and again."""

    name: str
    container: Container
    chance: random.Random
    kills: int = 0
    """SIGKILLs that ended an invocation."""
    kills_amid: int = 0
    """Those of them that met the holder of a lease, in the middle of its run."""
    runs: int = 0
    failed: int = 0
    last_error: str | None = None
    timed_out: int = 0
    _began_s: float | None = None
    _shot: bool = False
    _amid: bool = False

    def run(self, stop: threading.Event) -> None:
        """Invoke all streams, over and over; a dead container is replaced."""
        self._start()
        while not stop.is_set():
            self._began_s, self._shot = time.monotonic(), False
            answer = self.container.invoke({})
            self._began_s = None
            self._count(answer)
            if answer.status == 0:
                self._start()
            stop.wait(self.chance.uniform(*PAUSE_S))

    def kill(self, *, whole: bool, amid: bool) -> None:
        """SIGKILL, if an invocation is under way; `amid` says that it was delivering."""
        began_s = self._began_s
        if began_s is None or time.monotonic() - began_s < UNDER_WAY_S:
            return
        self._shot, self._amid = True, amid
        if whole:
            self.container.kill()
        else:
            self.container.kill_runtime()

    def _count(self, answer: Answer) -> None:
        killed = answer.killed and self._shot
        self.runs += 1
        self.kills += killed
        self.kills_amid += killed and self._amid
        self.timed_out += answer.timed_out
        self.last_error = answer.error
        self.failed += answer.error is not None and not killed

    def _start(self) -> None:
        for _ in range(STARTS - 1):
            try:
                return self.container.start()
            except ProcessFailedError:
                continue
        return self.container.start()


@dataclass
class Pair:
    """The two containers of a function, and the records of its streams."""

    slots: list[Slot]
    records: list[Record]
    timeout_s: int

    @property
    def delivered_bytes(self) -> int:
        """Grows with each delivery."""
        return sum(record.bytes for record in self.records)

    def last_delivery(self) -> Mapping[str, Any]:
        """The line that was written last; {} if there is none."""
        newest = max(self.records, key=lambda record: record.modified_s)
        return last_line(newest.file) if newest.modified_s else {}

    def kill(self, slot: Slot, *, whole: bool) -> None:
        """SIGKILL to a container, or to its runtime only, if an invocation is under way."""
        fresh = time.time() - max(record.modified_s for record in self.records) < LATELY_S
        amid = fresh and self.last_delivery().get("container") == slot.name
        slot.kill(whole=whole, amid=amid)

    def note_frozen(self, pid: int) -> None:
        """Remember who was stopped."""
        for record in self.records:
            record.evidence.frozen.add(pid)


@contextmanager
def pair(
    number: int, options: Options, folder: Path, environment: Mapping[str, str]
) -> Iterator[Pair]:
    """Two containers that are not started, of a function with streams of its own.

    `environment` is the world's; the streams' database is named there too.
    """
    names = [f"{number}{stream}" for stream in STREAMS]
    kind = KINDS[number % len(KINDS)]
    streams = folder / f"streams-{number}.toml"
    database = environment["CHAOS_DATABASE"]
    streams.write_text("".join(STREAM.format(name=name, database=database) for name in names))
    own = {**environment, **kind.environment, "TIDEMARK_STREAMS": str(streams)}
    slots = [_slot(f"{number}{side}", own, kind.timeout_s, options) for side in "xy"]
    try:
        yield Pair(slots, [Record(name, folder / name) for name in names], kind.timeout_s)
    finally:
        for slot in slots:
            slot.container.stop()


def _slot(name: str, environment: Mapping[str, str], timeout_s: int, options: Options) -> Slot:
    own = {**environment, "CHAOS_CONTAINER": name}
    function = Function(environment=own, timeout_s=timeout_s, before=(CHAOS_FUNCTION,))
    return Slot(name, open_container(function)[0], options.chance(f"pauses of {name}"))


def last_line(file: Path) -> Mapping[str, Any]:
    """The last whole line of a stream's file, {} without one."""
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - 2000))
        whole = opened.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
    found: Mapping[str, Any] = json.loads(whole) if whole.startswith(b"{") else {}
    return found
