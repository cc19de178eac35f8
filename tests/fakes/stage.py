"""One stream on the fakes, run as often as a test likes."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fakes.clock import ManualClock
from fakes.sink import MemoryDeadLetters, RecordingSink, RecordingTelemetry
from fakes.source import ScriptedSource
from fakes.store import MemoryStore
from fakes.traits import KIND, Traits
from tidemark.budget import Budget
from tidemark.ports import Ports
from tidemark.run import Run
from tidemark.settings import Settings, StreamSettings

if TYPE_CHECKING:
    from fakes.script import Entry
    from tidemark.model import Acquired, Position, StreamSummary

NAME = "orders"


class Stage:
    """A stream that begins at the oplog's first entry; `options` are its settings.

    Streams of one process share a `clock`, and their runs a `budget`.
    """

    def __init__(
        self,
        *script: Entry,
        mode: Any = "drain",
        lease_s: float = 30.0,
        traits: Traits = KIND,
        clock: ManualClock | None = None,
        **options: Any,
    ):
        self.clock = clock or ManualClock()
        self.source = ScriptedSource(self.clock, script)
        self.store = MemoryStore(self.clock)
        self.sink = RecordingSink()
        self.letters = MemoryDeadLetters()
        self.telemetry = RecordingTelemetry()
        self.one_suspect = threading.Lock()
        self.source.traits = traits
        stream = StreamSettings(name=NAME, **{"start_at": "earliest"} | options)
        self.settings = Settings(table="state", mode=mode, lease_s=lease_s, streams=(stream,))

    @property
    def stream(self) -> StreamSettings:
        """The stream's settings."""
        return self.settings.streams[0]

    @property
    def stored(self) -> Acquired:
        """What the next holder of the lease would be told."""
        return self.store.stored(NAME)

    @property
    def position(self) -> Position | None:
        """The stored position."""
        return self.stored.checkpoint.position if self.stored.checkpoint else None

    @property
    def index(self) -> int:
        """How many entries of the oplog are before the stored position."""
        return 0 if self.position is None else self.source.index_of(self.position)

    def change_settings(self, **options: Any) -> None:
        """Deploy the stream with other settings."""
        self.settings = replace(self.settings, streams=(replace(self.stream, **options),))

    def budget(self, remaining_s: float = 60.0) -> Budget:
        """The budget of an invocation that has so long."""
        return Budget.of_invocation(
            self.clock, remaining_ms=int(remaining_s * 1000), reserve_s=self.settings.reserve_s
        )

    def made(self, *, remaining_s: float = 60.0, budget: Budget | None = None) -> Run:
        """A run that was not executed yet."""
        ports = Ports(
            self.source,
            self.store,
            self.sink,
            self.letters,
            self.clock,
            self.telemetry,
            self.one_suspect,
        )
        return Run(self.stream, self.settings, ports, budget or self.budget(remaining_s))

    def run(self, *, remaining_s: float = 60.0) -> StreamSummary:
        """One run to its end; a scripted crash passes."""
        return self.made(remaining_s=remaining_s).execute()

    def run_after_lease(self, *, remaining_s: float = 60.0) -> StreamSummary:
        """One run once the lease of a killed one has expired."""
        self.clock.advance_s(120)
        return self.run(remaining_s=remaining_s)
