"""Tidemark as a container that is told to run, like `recipe.mjs`; the environment has the AWS."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import sides
from memory import resident_mb
from tidemark.settings import Settings, StreamSettings
from tidemark.sinks.function import FunctionSink

if TYPE_CHECKING:
    from tidemark.invocation import Tidemark
    from tidemark.model import Batch

REMAINING_MS = 4_000


def container(uri: str, database: str, collection: str, deliveries: Path) -> Tidemark:
    """One stream, whose changes are noted in a file, each batch before `deliver` returns."""
    file = deliveries.open("a")

    def deliver(batch: Batch) -> None:
        for change in batch:
            print(change["documentKey"]["_id"], file=file)
        file.flush()

    stream = StreamSettings(name=collection, database=database, collection=collection)
    settings = Settings(table=os.environ["TIDEMARK_TABLE"], uri=uri, tls="off", streams=(stream,))
    return sides.container(settings, FunctionSink(deliver))


def main(uri: str, database: str, collection: str, deliveries: str) -> None:
    """A line a run; what Powertools prints goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    made = container(uri, database, collection, Path(deliveries))
    for _ in sys.stdin:
        begun = time.perf_counter()
        summary = made.handle({}, sides.Context(REMAINING_MS))
        answer = {
            "changes": summary["streams"][collection]["changes"],
            "seconds": time.perf_counter() - begun,
            "peak_mb": resident_mb("VmHWM"),
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
