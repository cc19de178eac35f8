"""The sink that `make chaos` delivers to: it fails now and then, and its record outlives any kill.

One line a change and one file a stream, each line in one write. A poison change never gets a line.
"""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tidemark.model import change_id

if TYPE_CHECKING:
    from tidemark.model import Batch

RAISING, NAMING = 0.01, 0.01  # the share of calls that fail, and how
WORK_S = (0.0, 0.001, 0.003, 0.01)  # a change; slow calls let kills and freezes meet one half done
FOLDER = Path(os.environ["CHAOS_DELIVERIES"])
POISON_EVERY = int(os.environ["CHAOS_POISON_EVERY"])
SABOTAGE = os.environ.get("CHAOS_SABOTAGE")
CHANCE = random.Random(f"{os.environ['CHAOS_SEED']} {os.getpid()}")

if SABOTAGE:
    import chaos_sabotage as sabotage  # type: ignore[import-not-found]  # it lies beside this

    sabotage.commit(SABOTAGE)


class SinkFailed(Exception):
    """The sink is down for a moment."""


class Poison(Exception):
    """No sink could take this change."""


def deliver(batch: Batch) -> dict[str, Any] | None:
    """Note each change; fail at a random one now and then, and at a poison change always."""
    place, chance = CHANCE.randrange(len(batch)), CHANCE.random()
    work_s, call = CHANCE.choice(WORK_S), uuid.uuid4().hex
    file = _opened(batch.stream)
    try:
        for number, change in enumerate(_sabotaged(batch)):
            if number == place and chance < RAISING:
                raise SinkFailed
            if number == place and chance < RAISING + NAMING:
                return {"batchItemFailures": [{"itemIdentifier": change_id(change)}]}
            time.sleep(work_s)
            _note(file, change, {"call": call, "fencing_token": batch.fencing_token})
    finally:
        os.close(file)
    return None


def _note(file: int, change: Any, line: dict[str, Any]) -> None:
    document = change["documentKey"]["_id"]
    if is_poison(change["operationType"], document):
        raise Poison
    line |= {
        "change_id": change_id(change),
        "container": os.environ["CHAOS_CONTAINER"],
        "pid": os.getpid(),
        "operation": change["operationType"],
        "document": document,
        "version": _version(change),
    }
    os.write(file, json.dumps(line).encode() + b"\n")


def is_poison(operation: str, document: str) -> bool:
    """Whether it is the insertion of every so manieth document."""
    return operation == "insert" and int(document.rpartition("-")[2]) % POISON_EVERY == 0


def _version(change: Any) -> int | None:
    """The version that this very change wrote; a deletion has none."""
    updated = change.get("updateDescription", {}).get("updatedFields")
    wrote = updated or change.get("fullDocument") or {}
    version: int | None = wrote.get("version")
    return version


def _sabotaged(batch: Batch) -> Any:
    return sabotage.spoiled(SABOTAGE, batch) if SABOTAGE else batch


def _opened(stream: str) -> int:
    return os.open(FOLDER / stream, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
