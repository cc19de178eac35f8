"""Everything goes wrong at once, with real processes, and nothing may be lost.

`make chaos` runs the real handler in Lambda containers, two of them racing for the same streams at
any time, against the embedded MongoDB (or that of MONGODB_URI) and AWS. It kills containers and
runtimes with SIGKILL, freezes them until their lease has gone, makes the server refuse and
DynamoDB fail, the sink fail now and then and some changes always. In the end it judges by the
writers' own record what became of every write, and compares what arrived with what a plain
`watch()` beside it has seen. Exits with 0 only if every promise held.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient

import chaos_containers
import chaos_dynamodb
import chaos_faults
import world
from chaos_oracle import Oracle
from chaos_record import DeadLetterQueue, Records
from chaos_report import Progress, Report, Tally, keep_evidence
from demo_writer import Writer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymongo.collection import Collection
    from pymongo.database import Database

    from chaos_containers import Pair
    from chaos_record import Record

POISON_EVERY = 120  # documents
RATES_PER_S = (2, 5, 20, 50)
RATE_FOR_S = (0.5, 3.0)
FIRST_POSITION_WITHIN_S = 60
CALM_WITHIN_S = 60
LEAST_WRITTEN = 150
TICK_S = 0.2
SABOTAGES = ("drop", "swap", "early", "unfenced")

Work = Callable[[threading.Event], None]


@dataclass(frozen=True)
class Options:
    """What is asked for."""

    kills: int = 200
    seed: int = 0
    pairs: int = 4
    within_s: float = 900
    sabotage: str = ""

    def chance(self, purpose: str) -> random.Random:
        """A source of chance of its own for each purpose."""
        return random.Random(f"{self.seed} {purpose}")


@dataclass
class Stage:
    """Everything that runs, who makes it go wrong, and who keeps the record."""

    database: Database[dict[str, Any]]
    pairs: list[Pair]
    misfortune: chaos_dynamodb.Misfortune
    failpoints: chaos_faults.Failpoints
    freezers: list[chaos_faults.Freezer]
    oracle: Oracle
    records: Records
    progress: Progress
    troubles: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """SIGKILLs that ended an invocation."""
        return sum(slot.kills for pair in self.pairs for slot in pair.slots)

    @property
    def tally(self) -> Tally:
        """What has happened so far."""
        slots = [slot for pair in self.pairs for slot in pair.slots]
        return Tally(
            kills=self.kills,
            kills_amid=sum(slot.kills_amid for slot in slots),
            runs=sum(slot.runs for slot in slots),
            failed=sum(slot.failed for slot in slots),
            timed_out=sum(slot.timed_out for slot in slots),
            freezes=sum(freezer.froze for freezer in self.freezers),
            failpoints=self.failpoints.armed,
            faults=self.misfortune.faults,
            written=sum(len(each.evidence.writes) for each in self.records.streams.values()),
            waiting=self.records.waiting,
            stalled_s=self.records.stalled_s,
            restarts=self.oracle.restarts,
        )


def main() -> int:
    """Run the chaos; 0 if every promise was kept, 130 after Ctrl-C."""
    options = _arguments()
    print(f"seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="tidemark-chaos-"))
    try:
        kept = run(options, folder)
    except KeyboardInterrupt:
        print("\nStopped; everything that was started is ended.")
        return 130
    if kept:
        shutil.rmtree(folder)
    else:
        print(f"The evidence is in {folder}")
    return 0 if kept else 1


def run(options: Options, folder: Path) -> bool:
    """The whole story; whether every promise held, and was put to the test."""
    with set_up(options, folder) as stage:
        perform(stage, options)
        records = stage.records.streams.values()
        for record in records:
            record.evidence.stored = stage.misfortune.accepted.get(record.stream, [])
            record.evidence.watched = stage.oracle.seen[record.stream]
        report = Report.of(stage.tally, [each.evidence for each in records], stage.troubles)
        stage.progress.end()
        print(report.text(options.kills), flush=True)
        kept = report.kept(options.kills)
        if not kept:
            keep_evidence(folder, records)
        return kept


@contextmanager
def set_up(options: Options, folder: Path) -> Iterator[Stage]:
    """Start the servers and make the containers; end all of it."""
    with ExitStack() as opened:
        running = opened.enter_context(world.run())
        client = opened.enter_context(MongoClient[dict[str, Any]](running.mongodb_uri))
        database = client[f"tidemark_chaos_{uuid.uuid4().hex[:8]}"]
        opened.callback(client.drop_database, database.name)
        misfortune = chaos_dynamodb.Misfortune(running.cloud, options.chance("dynamodb"))
        environment = {
            **_environment(running, options, folder),
            "AWS_ENDPOINT_URL_DYNAMODB": opened.enter_context(chaos_dynamodb.serve(misfortune)),
            "CHAOS_DATABASE": database.name,
        }
        pairs = [
            opened.enter_context(chaos_containers.pair(number, options, folder, environment))
            for number in range(options.pairs)
        ]
        records = {record.stream: record for pair in pairs for record in pair.records}
        yield Stage(
            database,
            pairs,
            misfortune,
            chaos_faults.Failpoints(client, options.chance("failpoints")),
            chaos_faults.freezers(pairs, options),
            Oracle(database),
            Records(records, DeadLetterQueue(running)),
            Progress(options.kills),
        )


def _environment(running: world.World, options: Options, folder: Path) -> dict[str, str]:
    return {
        **running.environment(),
        "TIDEMARK_LEASE_S": str(chaos_faults.LEASE_S),
        "TIDEMARK_RESERVE_S": "1",
        "CHAOS_DELIVERIES": str(folder),
        "CHAOS_POISON_EVERY": str(POISON_EVERY),
        "CHAOS_SEED": str(options.seed),
        "CHAOS_SABOTAGE": options.sabotage,
    }


def perform(stage: Stage, options: Options) -> None:
    """Writing begins behind every stream's first position, and ends after the last kill."""
    slots = [slot for pair in stage.pairs for slot in pair.slots]
    readers = [*(slot.run for slot in slots), stage.oracle.run]
    with at_work(readers, stage.troubles):
        _until(stage, lambda: _all_have_begun(stage), FIRST_POSITION_WITHIN_S)
        if not _all_have_begun(stage):
            stage.troubles.append(f"no first position: {slots[0].last_error}")
            return
        with at_work(_writers(stage, options), stage.troubles):
            with at_work(_faults(stage, options), stage.troubles):
                _until(stage, lambda: _has_suffered(stage, options), options.within_s)
            stage.misfortune.share = 0
        _until(stage, lambda: _all_have_ended(stage), CALM_WITHIN_S)
    stage.records.look()


def _faults(stage: Stage, options: Options) -> list[Work]:
    killers = [
        partial(chaos_faults.kill, pair, options.chance(f"killer {number}"))
        for number, pair in enumerate(stage.pairs)
    ]
    return [*killers, *(freezer.run for freezer in stage.freezers), stage.failpoints.run]


def _writers(stage: Stage, options: Options) -> list[Work]:
    return [
        partial(_write, stage.database[record.stream], record, options.chance(record.stream))
        for record in stage.records.streams.values()
    ]


def _write(
    collection: Collection[dict[str, Any]],
    record: Record,
    chance: random.Random,
    stop: threading.Event,
) -> None:
    """Write at one pace after the other; what the server acknowledges is noted."""
    writer = Writer(collection, per_second=0)
    while not stop.is_set():
        pause_s = 1 / chance.choice(RATES_PER_S)
        until_s = time.monotonic() + chance.uniform(*RATE_FOR_S)
        while time.monotonic() < until_s and not stop.wait(pause_s):
            record.evidence.writes.append(writer.write_one())


def _has_suffered(stage: Stage, options: Options) -> bool:
    """Whether it was killed as often as asked, and had something to lose."""
    return stage.kills >= options.kills and stage.tally.written >= LEAST_WRITTEN


def _all_have_begun(stage: Stage) -> bool:
    """Whether every stream has stored its first position: what is written now must arrive."""
    stored = stage.misfortune.accepted
    return stage.oracle.begun.is_set() and all(
        any(each.has_position for each in stored.get(stream, []))
        for stream in stage.records.streams
    )


def _all_have_ended(stage: Stage) -> bool:
    """Whether everything has arrived, with Tidemark and beside it."""
    return stage.records.waiting == 0 and stage.oracle.changes >= stage.tally.written


def _until(stage: Stage, reached: Callable[[], bool], within_s: float) -> None:
    """Look again and again until it is so, somebody is in trouble, or the time is over."""
    give_up_s = time.monotonic() + within_s
    while not reached() and not stage.troubles and time.monotonic() < give_up_s:
        time.sleep(TICK_S)
        stage.records.look()
        stage.progress.show(stage.tally)


@contextmanager
def at_work(works: Iterable[Work], troubles: list[str]) -> Iterator[None]:
    """Threads for the length of the block; an error in one of them is a trouble, not a silence."""
    stop = threading.Event()
    threads = [threading.Thread(target=_guarded, args=(work, stop, troubles)) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _guarded(work: Work, stop: threading.Event, troubles: list[str]) -> None:
    try:
        work(stop)
    except Exception as error:
        troubles.append(f"{type(error).__name__}: {error}")


def _arguments() -> Options:
    parser = argparse.ArgumentParser(description="Kill, freeze and refuse; lose nothing.")
    default = Options()
    parser.add_argument("--kills", type=int, default=default.kills, help="at least so many")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of the faults")
    parser.add_argument("--pairs", type=int, default=default.pairs, help="of containers")
    parser.add_argument("--within-s", type=float, default=default.within_s, help="at the longest")
    parser.add_argument("--sabotage", choices=SABOTAGES, default="", help="for the tests: exits 1")
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
