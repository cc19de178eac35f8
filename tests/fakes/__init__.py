"""The world of a run, in memory and under a manual clock.

Faults lie inside the data: `ScriptedSource(clock, [insert(1), IDLE, CRASH, HISTORY_LOST])`. Each
port's contract suite runs on its fake here and on the real adapter.
"""

from fakes.clock import ContainerClock, ManualClock
from fakes.script import (
    CRASH,
    HIDDEN_INVALIDATE,
    HISTORY_LOST,
    IDLE,
    INVALIDATE,
    UNAVAILABLE,
    UNDECODABLE,
    Crash,
    Entry,
    Kind,
    insert,
    split,
    stall,
    undecodable,
)
from fakes.sink import MemoryDeadLetters, RecordingSink, RecordingTelemetry, SinkFailed
from fakes.source import ScriptedSource
from fakes.stage import Stage
from fakes.store import MemoryStore, StoreFault, slow
from fakes.traits import Traits

__all__ = [
    "CRASH",
    "HIDDEN_INVALIDATE",
    "HISTORY_LOST",
    "IDLE",
    "INVALIDATE",
    "UNAVAILABLE",
    "UNDECODABLE",
    "ContainerClock",
    "Crash",
    "Entry",
    "Kind",
    "ManualClock",
    "MemoryDeadLetters",
    "MemoryStore",
    "RecordingSink",
    "RecordingTelemetry",
    "ScriptedSource",
    "SinkFailed",
    "Stage",
    "StoreFault",
    "Traits",
    "insert",
    "slow",
    "split",
    "stall",
    "undecodable",
]
