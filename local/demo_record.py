"""What has happened in the demo so far, as its threads note it and the screen shows it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from demo_verdict import Delivery, Verdict, Write, judge

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Run:
    """One invocation; `ended_s` and `ending` are None while it runs."""

    number: int
    container: int
    started_s: float
    delivered_before: int
    """How many deliveries there were when it began."""
    cold: bool = False
    ended_s: float | None = None
    ending: str | None = None
    killed: bool = False
    failed: bool = False
    delivered: int = 0


@dataclass(frozen=True)
class Sample:
    """The tide at one moment."""

    at_s: float
    waiting: int
    killed: bool


@dataclass
class Record:
    """Appended to by one thread each: the writer, the schedule, the screen's own."""

    deliveries_file: Path
    began: float = field(default_factory=time.monotonic)
    writes: list[Write] = field(default_factory=list)
    written_at_s: list[float] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    """Errors of the demo's own threads; any of them fails it."""
    writing: bool = False
    _seen: set[Write] = field(default_factory=set)
    _read_bytes: int = 0
    _delivered_upto: int = 0
    _sampled_kills: int = 0

    def now_s(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self.began

    def note_write(self, write: Write) -> None:
        """An acknowledged write; the time first, as others look at `writes`."""
        self.written_at_s.append(self.now_s())
        self.writes.append(write)

    def read_deliveries(self) -> None:
        """Take in the whole lines that `deliver` has appended since the last time."""
        if not self.deliveries_file.exists():
            return
        with self.deliveries_file.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        for line in whole.splitlines():
            delivery = _delivery(line)
            self.deliveries.append(delivery)
            self._seen.add(delivery.write)

    def count_deliveries(self) -> int:
        """How many there are at this moment, whatever has been read of them."""
        if not self.deliveries_file.exists():
            return 0
        return self.deliveries_file.read_bytes().count(b"\n")

    def sample(self) -> None:
        """Note the tide; a kill since the last sample marks this one."""
        kills = self.kills
        self.samples.append(Sample(self.now_s(), self.waiting, kills > self._sampled_kills))
        self._sampled_kills = kills

    @property
    def kills(self) -> int:
        """Runs that a SIGKILL ended."""
        return sum(run.killed for run in self.runs)

    @property
    def distinct(self) -> int:
        """Changes delivered at least once."""
        return len(self._seen)

    @property
    def waiting(self) -> int:
        """Acknowledged writes that have not been delivered yet."""
        return max(0, len(self.writes) - self.distinct)

    def lag_s(self) -> float:
        """How long the oldest undelivered write has been waiting; 0 when all are delivered."""
        while self._delivered_upto < len(self.writes) and self._next_is_delivered():
            self._delivered_upto += 1
        if self._delivered_upto == len(self.writes):
            return 0.0
        return self.now_s() - self.written_at_s[self._delivered_upto]

    def verdict(self) -> Verdict:
        """Judge everything up to now."""
        self.read_deliveries()
        return judge(self.writes, self.deliveries, self.kills)

    def _next_is_delivered(self) -> bool:
        return self.writes[self._delivered_upto] in self._seen


def _delivery(line: bytes) -> Delivery:
    """One line of `demo_function/deliver.py`."""
    said = json.loads(line)
    write = Write(said["operation"], said["document"], said["version"])
    return Delivery(write, said["change_id"], said["fencing_token"])
