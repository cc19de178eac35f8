"""Collects the evidence of each stream while the chaos goes on, and how long nothing moved."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bson import json_util

import aws
from chaos_oracle import write_of
from chaos_verdict import Evidence, Letter, Line
from demo_verdict import Write

if TYPE_CHECKING:
    from pathlib import Path

    import world


@dataclass
class Record:
    """One stream's evidence, and its progress."""

    stream: str
    file: Path
    evidence: Evidence = field(default_factory=Evidence)
    stalled_s: float = 0.0
    """The longest time in which nothing new was settled while a write was waiting."""
    _settled: set[Write] = field(default_factory=set)
    _moved_at_s: float = field(default_factory=time.monotonic)
    _read_bytes: int = 0

    @property
    def waiting(self) -> int:
        """Acknowledged writes that are neither delivered nor set aside."""
        return max(0, len(self.evidence.writes) - len(self._settled))

    @property
    def bytes(self) -> int:
        """How much has been delivered so far, cheap to ask."""
        return self.file.stat().st_size if self.file.exists() else 0

    @property
    def modified_s(self) -> float:
        """When something was delivered last; 0 before that."""
        return self.file.stat().st_mtime if self.file.exists() else 0

    def read(self) -> None:
        """Read the lines that came since the last time; half a line waits for its rest."""
        if not self.file.exists():
            return
        with self.file.open("rb") as file:
            file.seek(self._read_bytes)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_bytes += len(whole)
        lines = [_line(json.loads(line)) for line in whole.splitlines()]
        self.evidence.lines += lines
        self._settle({line.write for line in lines})

    def add_letter(self, letter: Letter) -> None:
        """Note a dead letter."""
        self.evidence.letters.append(letter)
        self._settle({letter.write})

    def measure(self) -> None:
        """Note for how long nothing has moved."""
        now_s = time.monotonic()
        if not self.waiting:
            self._moved_at_s = now_s
        self.stalled_s = max(self.stalled_s, now_s - self._moved_at_s)

    def _settle(self, writes: set[Write]) -> None:
        if writes - self._settled:
            self._settled |= writes
            self._moved_at_s = time.monotonic()


@dataclass
class Records:
    """All streams' evidence, and the queue of the dead letters."""

    streams: dict[str, Record]
    queue: DeadLetterQueue

    def look(self) -> None:
        """Bring everything up to date."""
        for letter_of, letter in self.queue.collect():
            self.streams[letter_of].add_letter(letter)
        for record in self.streams.values():
            record.read()
            record.measure()

    @property
    def waiting(self) -> int:
        """Of all streams."""
        return sum(record.waiting for record in self.streams.values())

    @property
    def stalled_s(self) -> float:
        """The longest time in which one of them did not move."""
        return max(record.stalled_s for record in self.streams.values())


class DeadLetterQueue:
    """The stack's queue, emptied by reading."""

    def __init__(self, running: world.World) -> None:
        self._url = running.resources.queue_url
        self._sqs = aws.session().client("sqs", endpoint_url=running.cloud.endpoint)

    def collect(self) -> list[tuple[str, Letter]]:
        """The letters that came since the last time, each with its stream."""
        found = []
        while received := self._receive():
            for message in received:
                found.append(_letter(json.loads(message["Body"])))
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def _receive(self) -> list[Any]:
        answer: Any = self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10)
        messages: list[Any] = answer.get("Messages", [])
        return messages


def _line(said: dict[str, Any]) -> Line:
    """One line of `chaos_function/deliver.py`."""
    write = Write(said["operation"], said["document"], said["version"])
    return Line(write, said["change_id"], said["fencing_token"], said["call"], said["pid"])


def _letter(said: dict[str, Any]) -> tuple[str, Letter]:
    change = json_util.loads(json.dumps(said["change"]))
    return said["stream"], Letter(write_of(change), said["changeId"], said["errorType"])
