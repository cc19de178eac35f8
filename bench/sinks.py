"""How fast changes leave for each service, next to one call a change in the same run.

    python bench/sinks.py [--rounds 15] [--concurrency 4] [--answer-ms 0] [--processors 1]

Both sides send the same bodies and attributes to a stub that answers at once (`aws_stub.py`), so
that the client is measured and no network. They take turns, on one processor, as a function below
1,769 MB has it; the stub has the others. A figure is the median of the rounds. Processor time is
what a small function has least of, and what a busy machine distorts least. One call a change is
what one writes: `client.send_message(…)` on a client of boto3's defaults, with Tidemark's encoder.
The share of encoding is what writing the JSON alone takes of a batch's processor time.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bson.objectid import ObjectId
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[1] / "local"))
sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "tidemark"))
import aws
import child
import processes
import results
from encoding import ORDER, update
from figures import Label, at_least, text_of
from tidemark.budget import SystemClock
from tidemark.claimcheck import ClaimCheck
from tidemark.encoding import encode
from tidemark.model import Batch
from tidemark.settings import SinkSettings
from tidemark.sinks import destinations
from tidemark.sinks.bulk import BulkSink
from tidemark.sinks.message import Composer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from figures import Figure
    from plan import Plan
    from tidemark.sinks.target import Target

ROW = "sinks"
Row: TypeAlias = dict[str, Any]
BATCH = 1_000
ONE_BY_ONE = 150  # calls a round
ACCOUNT = "123456789012"
TARGETS = {
    "sqs": f"arn:aws:sqs:{aws.REGION}:{ACCOUNT}:orders",
    "sqs fifo": f"arn:aws:sqs:{aws.REGION}:{ACCOUNT}:orders.fifo",
    "sns": f"arn:aws:sns:{aws.REGION}:{ACCOUNT}:orders",
    "sns fifo": f"arn:aws:sns:{aws.REGION}:{ACCOUNT}:orders.fifo",
    "eventbridge": "orders",
    "kinesis": "orders",
}
WANTED = {"kinesis": 30}
DEFAULT_WANTED = 10


def changes(count: int) -> list[dict[str, Any]]:
    """Updates of a typical order, each of a document of its own."""
    typical = update(ORDER)
    data = typical["_id"]["_data"]
    return [
        typical
        | {"_id": {"_data": f"{number:08X}{data[8:]}"}}
        | {"documentKey": {"_id": ObjectId(f"{number:024x}")}}
        for number in range(count)
    ]


@contextmanager
def stub(answer_ms: float) -> Iterator[str]:
    """The address of a service that answers after `answer_ms`."""
    command = [sys.executable, Path(__file__).with_name("aws_stub.py"), "--answer-ms", answer_ms]
    process = processes.start("aws", [str(part) for part in command])
    try:
        yield f"http://127.0.0.1:{process.wait_for(r'stub listening on [^:]+:([0-9]+)')[1]}"
    finally:
        process.stop()


def requests_at(endpoint: str) -> int:
    """How many requests the stub has answered."""
    with urllib.request.urlopen(f"{endpoint}/requests") as answer:
        return int(answer.read())


def settings_of(kind: str, concurrency: int) -> SinkSettings:
    """The sink of `kind`, as a [sinks] table would describe it."""
    service: Any = kind.partition(" ")[0]
    return SinkSettings(name="out", type=service, target=TARGETS[kind], concurrency=concurrency)


def bulk(settings: SinkSettings, endpoint: str) -> BulkSink:
    """Tidemark's sink, as it is in the function."""
    made: dict[str, Any] = {}

    def client_of(service: str, _region: str | None) -> Any:
        if service not in made:
            made[service] = _client(service, endpoint, config=destinations.CLIENT)
        return made[service]

    def target() -> Target:
        return destinations.target_of(settings, client_of)

    return BulkSink(settings, target, ClaimCheck("", lambda: client_of("s3", None)), SystemClock())


def _client(service: str, endpoint: str, **options: Any) -> Any:
    made: Any = aws.session().client(service, endpoint_url=endpoint, **options)  # type: ignore[call-overload]
    return made


def one_call(settings: SinkSettings, endpoint: str) -> Callable[[dict[str, Any]], None]:
    """What one writes by hand: one call a change."""
    service = destinations.SERVICES[settings.type]
    client, of_target = _client(service, endpoint), _client(service, endpoint)
    target = destinations.target_of(settings, lambda _service, _region: of_target)
    composer = Composer("orders", settings, target.keeps_order)
    calls: dict[str, Callable[[dict[str, Any]], Any]] = {
        "sqs": lambda entry: client.send_message(QueueUrl=f"{endpoint}/{ACCOUNT}/orders", **entry),
        "sns": lambda entry: client.publish(TopicArn=settings.target, **entry),
        "eventbridge": lambda entry: client.put_events(Entries=[entry]),
        "kinesis": lambda entry: client.put_record(StreamName=settings.target, **entry),
    }

    def send(change: dict[str, Any]) -> None:
        entry, _ = target.entry(composer.message(change, 0))
        entry.pop("Id", None)
        calls[settings.type](entry)

    return send


def seconds(work: Callable[[], object], count: int) -> tuple[float, float]:
    """What each of `count` changes takes in `work`: of time, and of this process's processor."""
    begun, cpu_begun = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - begun) / count, (time.process_time() - cpu_begun) / count


def measured(kind: str, concurrency: int, rounds: int, endpoint: str) -> Row:
    """Both sides by turns, after one turn each that does not count: a value a round and change."""
    settings = settings_of(kind, concurrency)
    sink, send = bulk(settings, endpoint), one_call(settings, endpoint)
    batch = Batch("orders", changes(BATCH), 1)

    def in_bulk() -> None:
        outcome = sink.deliver(batch, deadline_s=time.monotonic() + 60)
        if outcome.delivered != BATCH:
            raise RuntimeError(f"{kind}: {outcome}")

    def one_by_one() -> None:
        for change in batch[:ONE_BY_ONE]:
            send(change)

    def writing() -> None:
        for change in batch:
            encode(change)

    works = {"one": (one_by_one, ONE_BY_ONE), "bulk": (in_bulk, BATCH), "writing": (writing, BATCH)}
    for work, _ in works.values():
        work()
    before = requests_at(endpoint)
    in_bulk()
    requests = requests_at(endpoint) - before
    laps = [{name: seconds(*timed) for name, timed in works.items()} for _ in range(rounds)]
    sides = {name: list(zip(*(lap[name] for lap in laps), strict=True)) for name in works}
    return {"sink": kind, "requests_per_1000": requests * 1000 / BATCH, **sides}


def rows(rounds: int, answer_ms: float, concurrency: int = 4, processors: int = 1) -> list[Row]:
    """Every sink's; in a process of its own, which stays on its processors."""
    gc.disable()  # one collection in one round would count against one side
    with stub(answer_ms) as endpoint:
        if hasattr(os, "sched_setaffinity"):  # elsewhere both sides run where the system likes
            os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:processors])
        return [measured(kind, concurrency, rounds, endpoint) for kind in TARGETS]


def figures(plan: Plan) -> Iterator[Figure]:
    """The same as rows of the benchmark's table; the targets are for answers that cost nothing."""
    for answer_ms, rounds in ((0, 2 * plan.rounds + 1), (5, plan.rounds)):  # the short ones vary
        yield from of_rows(
            child.measure("sinks.rows", rounds=rounds, answer_ms=answer_ms), answer_ms
        )


def of_rows(found: list[Row], answer_ms: int) -> Iterator[Figure]:
    """Each sink's speed, then what each takes of the processor."""
    yield from (speed_of(row, answer_ms) for row in found)
    yield from (cost_of(row, answer_ms) for row in found)


def speed_of(row: Row, answer_ms: int) -> Figure:
    """Changes a second, over those of one call a change."""
    one, bulk = (row[side][0] for side in ("one", "bulk"))
    what = f"changes/s over one call a change's, answers after {answer_ms} ms"
    target = None if answer_ms else at_least(WANTED.get(row["sink"], DEFAULT_WANTED))
    rates = [text_of(1 / statistics.median(side)) for side in (bulk, one)]
    notes = f"{rates[0]} over {rates[1]} changes/s, {row['requests_per_1000']:.0f} requests / 1,000"
    return Label(ROW, row["sink"], what, target=target).of_ratio(one, bulk, notes)


def cost_of(row: Row, answer_ms: int) -> Figure:
    """Processor time of one call a change over ours, and how much of ours is encoding."""
    one, bulk, writing = (row[side][1] for side in ("one", "bulk", "writing"))
    what = f"processor time of one call a change over ours, answers after {answer_ms} ms"
    costs = [text_of(1e6 * statistics.median(side)) for side in (one, bulk)]
    share = statistics.median(writing) / statistics.median(bulk)
    notes = f"{costs[0]} over {costs[1]} µs a change, {share:.0%} of ours writing JSON"
    return Label(ROW, row["sink"], what).of_ratio(one, bulk, notes)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="at least 3 (default 15)")
    parser.add_argument("--concurrency", type=int, default=4, help="of the sink (default 4)")
    parser.add_argument("--answer-ms", type=int, default=0, help="of the stub (default 0)")
    parser.add_argument("--processors", type=int, default=1, help="of the sink (default 1)")
    asked = parser.parse_args()
    found = rows(max(3, asked.rounds), asked.answer_ms, asked.concurrency, asked.processors)
    Console().print(*results.tables(list(of_rows(found, asked.answer_ms))), sep="\n")


if __name__ == "__main__":
    main()
