"""The same recipe as `recipe.mjs`, ported to Python: next() in a thread, raced against a timer."""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from pymongo import MongoClient

RUN_S = 1.0


class Container:
    """What is warm between runs: the client, and the token in a global."""

    def __init__(self, uri: str, database: str, collection: str, deliveries: Path) -> None:
        self._collection = MongoClient[Any](uri)[database][collection]
        self._deliveries = deliveries
        self._token: Any = None

    def run(self) -> int:
        """Watch, race each next() against one timer, keep the token, close."""
        stream = self._collection.watch(resume_after=self._token)
        racer = ThreadPoolExecutor(1)
        until_s, count = time.monotonic() + RUN_S, 0
        with suppress(TimeoutError), self._deliveries.open("a") as file:
            while True:
                change = racer.submit(stream.next).result(until_s - time.monotonic())
                print(change["documentKey"]["_id"], file=file, flush=True)
                count += 1
        self._token = stream.resume_token
        stream.close()
        racer.shutdown(wait=False)  # an abandoned next() may go on for a while
        return count


def main(uri: str, database: str, collection: str, deliveries: str) -> None:
    """A line a run."""
    container = Container(uri, database, collection, Path(deliveries))
    for _ in sys.stdin:
        begun = time.perf_counter()
        answer = {"changes": container.run(), "seconds": time.perf_counter() - begun}
        print(json.dumps(answer | {"peak_mb": _peak_mb()}), flush=True)


def _peak_mb() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024 / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
