"""How fast changes leave for each service, next to one call a change in the same run.

    python bench/sinks.py [--rounds 7] [--concurrency 4] [--answer-ms 0] [--json PATH]

Both sides send the same bodies and attributes to a stub that answers at once (`aws_stub.py`), so
that the client is measured and no network. They take turns; a figure is the median of the rounds.
Processor time is what a small function has least of, and what a busy machine distorts least.
One call a change is what one writes: `client.send_message(…)` on a client of boto3's defaults, with
Tidemark's encoder. The share of encoding is what writing the JSON alone takes of a batch's
processor time.
"""

import argparse
import gc
import json
import platform
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bson.objectid import ObjectId
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "local"))
sys.path.insert(0, str(Path(__file__).parents[1] / "layers" / "tidemark"))
import aws
import processes
from encoding import ORDER, update
from tidemark.budget import SystemClock
from tidemark.claimcheck import ClaimCheck
from tidemark.encoding import encode
from tidemark.model import Batch
from tidemark.settings import SinkSettings
from tidemark.sinks import destinations
from tidemark.sinks.bulk import BulkSink
from tidemark.sinks.message import Composer
from tidemark.sinks.target import Target

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


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """How long `work` takes, and how much of this process's processor."""
    begun, cpu_begun = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - cpu_begun


def measured(kind: str, concurrency: int, rounds: int, endpoint: str) -> dict[str, Any]:
    """Both sides by turns, after one turn each that does not count."""
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

    one_by_one()
    in_bulk()
    before = requests_at(endpoint)
    in_bulk()
    requests = requests_at(endpoint) - before
    turns = [(seconds(one_by_one), seconds(in_bulk)) for _ in range(rounds)]
    writing = [seconds(lambda: [encode(change) for change in batch])[1] for _ in range(rounds)]
    ones = [[each / ONE_BY_ONE for each in one] for one, _ in turns]
    bulks = [[each / BATCH for each in several] for _, several in turns]
    times, cpu_times = (
        [one[which] / several[which] for one, several in zip(ones, bulks, strict=True)]
        for which in (0, 1)
    )
    return {
        "sink": kind,
        "one_call_per_s": 1 / statistics.median(wall for wall, _ in ones),
        "bulk_per_s": 1 / statistics.median(wall for wall, _ in bulks),
        "times_faster": statistics.median(times),
        "times_faster_least": min(times),
        "times_faster_most": max(times),
        "one_call_cpu_us": 1e6 * statistics.median(cpu for _, cpu in ones),
        "bulk_cpu_us": 1e6 * statistics.median(cpu for _, cpu in bulks),
        "times_less_cpu": statistics.median(cpu_times),
        "wanted": WANTED.get(kind, DEFAULT_WANTED),
        "requests_per_1000": requests * 1000 / BATCH,
        "encoding_share": statistics.median(writing)
        / BATCH
        / statistics.median(cpu for _, cpu in bulks),
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("sink", "one call /s", "bulk /s", "faster", "wanted", "CPU µs", "less CPU")
    table.add_column("requests / 1000")
    table.add_column("encoding")
    for row in rows:
        table.add_row(
            row["sink"],
            f"{row['one_call_per_s']:,.0f}",
            f"{row['bulk_per_s']:,.0f}",
            f"{row['times_faster']:.1f} ({row['times_faster_least']:.1f} to "
            f"{row['times_faster_most']:.1f})",
            f"{row['wanted']}",
            f"{row['one_call_cpu_us']:.0f}, {row['bulk_cpu_us']:.0f}",
            f"{row['times_less_cpu']:.1f}",
            f"{row['requests_per_1000']:.0f}",
            f"{row['encoding_share']:.0%}",
        )
    Console().print(table)


def main() -> None:
    """Measure, print and, if asked, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7, help="at least 3 (default 7)")
    parser.add_argument("--concurrency", type=int, default=4, help="of the sink (default 4)")
    parser.add_argument("--answer-ms", type=float, default=0, help="of the stub (default 0)")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    gc.disable()  # one collection in one round would count against one side
    with stub(options.answer_ms) as endpoint:
        rows = [
            measured(kind, options.concurrency, max(3, options.rounds), endpoint)
            for kind in TARGETS
        ]
    show(rows)
    if options.json:
        about = {"python": platform.python_version(), "machine": platform.machine()}
        libraries = {"boto3": version("boto3")}
        asked = {"concurrency": options.concurrency, "answer_ms": options.answer_ms}
        options.json.write_text(
            json.dumps({**about, **libraries, **asked, "results": rows}, indent=2)
        )


if __name__ == "__main__":
    main()
