"""What a cold start imports, over its three libraries alone."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import backends
import child
from figures import Label, at_most, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from plan import Plan

ROUNDS = 3  # times the plan's: half a second each, and noisy
SETTINGS = {
    "TIDEMARK_TABLE": "bench",
    "TIDEMARK_DEAD_LETTER_QUEUE_URL": "http://127.0.0.1/queue",
}
LIBRARIES = """
import pymongo, boto3
from aws_lambda_powertools import Logger, Metrics
client = boto3.client("dynamodb")
Logger(), Metrics()
"""
HANDLER = "import app"
CONNECT = {
    LIBRARIES: "pymongo.MongoClient(uri).admin.command('ping')",
    HANDLER: "app.tidemark.source.now(timeout_s=5)",
}
TIMED = """
import sys, time
uri = {uri!r}
begun = time.perf_counter()
{code}
print(time.perf_counter() - begun, len(sys.modules))
"""


def figures(plan: Plan) -> Iterator[Figure]:
    """The import with DynamoDB's client; then with a MongoDB client that has connected."""
    with backends.serve("stub", 1, 500) as served, backends.dynamodb() as aws:
        more = {**aws, **SETTINGS, "MONGODB_URI": served.uri}
        plain = {LIBRARIES: LIBRARIES, HANDLER: HANDLER}
        yield _compared(plan, "handler", plain, more)
        connected = {code: f"{code}\n{line}" for code, line in CONNECT.items()}
        yield _compared(plan, "handler and a connected client", connected, more)


def _compared(plan: Plan, case: str, code: dict[str, str], more: dict[str, str]) -> Figure:
    rounds = [
        {side: _seconds(code[side], more) for side in (HANDLER, LIBRARIES)}
        for _ in range(ROUNDS * plan.rounds)
    ]
    ours, theirs = ([1e3 * lap[side] for lap in rounds] for side in (HANDLER, LIBRARIES))
    middle = [text_of(sorted(side)[len(side) // 2]) for side in (ours, theirs)]
    label = Label("startup", case, "import over its libraries' alone", target=at_most(1.15))
    return label.of_ratio(ours, theirs, f"{middle[0]} over {middle[1]} ms")


def _seconds(code: str, more: dict[str, str]) -> float:
    """What the code takes in a fresh interpreter, without the interpreter's own start."""
    script = TIMED.format(uri=more["MONGODB_URI"], code=code)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=child.environment(more),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise child.MeasurementFailedError(done.stderr[-2000:])
    seconds, _modules = json.loads("[" + done.stdout.splitlines()[-1].replace(" ", ",") + "]")
    return float(seconds)
