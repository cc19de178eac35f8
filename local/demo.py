"""The main job, to watch: real change streams, a function killed in the middle of its runs.

`make demo` writes a steady mix of changes to a real server on a real wire protocol, invokes the
function on a schedule as Lambda would, sends it SIGKILL while it delivers, and judges in the end by
what was written whether every change arrived, in order. Exits with 0 only if so.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError
from rich.console import Console

import aws
import demo_screen
import demo_state
import world
from container import Container, Function, open_container
from demo_record import Record
from demo_schedule import STREAM, Killer, Schedule
from demo_writer import Writer
from processes import ProcessFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WRITES_PER_S = 150
WRITING_S = 20.0
# On a slow machine the kills may need longer; then the writing goes on until they are done.
WRITING_AT_MOST_S = 25.0
END_S = 32.0
TIMEOUT_S = 5
TICK_S = 0.1
SAMPLE_EVERY_S = 0.25
DEMO_FUNCTION = Path(__file__).with_name("demo_function")
STREAMS = """
[[stream]]
name = "{stream}"
database = "{database}"
collection = "orders"
"""


@dataclass
class Stage:
    """Everything that is set up before the first change is written."""

    running: world.World
    container: Container
    places: str
    record: Record
    client: MongoClient[dict[str, Any]]
    database: str


def main() -> int:
    """Run the demo; 0 if every promise was kept, 130 after Ctrl-C."""
    console = Console()
    try:
        with console.status("Starting a MongoDB, an AWS and a Lambda …"), ExitStack() as opened:
            stage = opened.enter_context(set_up())
            keep = opened.pop_all()
        with keep:
            return play(stage, console)
    except KeyboardInterrupt:
        console.print("Stopped; everything that was started is ended.")
        return 130
    except (ProcessFailedError, PyMongoError) as error:
        console.print(f"The demo could not start: {error}", markup=False)
        return 1


@contextmanager
def set_up() -> Iterator[Stage]:
    """Start the servers and a container; end them, and drop the demo's database."""
    database = f"tidemark_demo_{uuid.uuid4().hex[:8]}"
    with ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="tidemark-demo-")))
        running = opened.enter_context(world.run())
        client = opened.enter_context(MongoClient[dict[str, Any]](running.mongodb_uri))
        opened.callback(client.drop_database, database)
        made, kind = open_container(function(running, folder, database))
        container = opened.enter_context(made)
        record = Record(folder / "deliveries")
        yield Stage(running, container, f"{running.kind} · {kind}", record, client, database)


def function(running: world.World, folder: Path, database: str) -> Function:
    """The real handler, with the demo's own deliver() and streams file before it."""
    streams = folder / "streams.toml"
    streams.write_text(STREAMS.format(stream=STREAM, database=database), encoding="utf-8")
    environment = {
        **running.environment(),
        "TIDEMARK_STREAMS": str(streams),
        "TIDEMARK_LEASE_S": "5",
        "TIDEMARK_RESERVE_S": "1",
        "TIDEMARK_MODE": "drain",
        "DEMO_DELIVERIES": str(folder / "deliveries"),
    }
    return Function(environment=environment, timeout_s=TIMEOUT_S, before=(DEMO_FUNCTION,))


def play(stage: Stage, console: Console) -> int:
    """The story: a first run, the writing with its kills, the rest, the verdict."""
    screen = demo_screen.choose(console, stage.places)
    threads = Threads(stage.record)
    try:
        perform(stage, threads, Watch(stage, screen))
    finally:
        threads.stop()
        screen.close(stage.record)
    verdict = stage.record.verdict()
    console.print(demo_screen.verdict_panel(verdict, stage.record.troubles))
    return 0 if verdict.kept and not stage.record.troubles else 1


def perform(stage: Stage, threads: Threads, watch: Watch) -> None:
    """The first run stores where the stream begins; only then is anything written."""
    record = stage.record
    schedule = Schedule(stage.container, record)
    killer = Killer(stage.container, record)
    writer = Writer(stage.client[stage.database]["orders"], per_second=WRITES_PER_S)
    threads.start(schedule.run)
    watch.until(lambda: _first_run_is_over(record))
    if record.troubles:
        return
    began_s, record.writing = record.now_s(), True
    stop_writing = threads.start(lambda stop: writer.run(record.note_write, stop))
    watch.until(lambda: _written_enough(record, killer, record.now_s() - began_s))
    stop_writing()
    record.writing = False
    watch.until(lambda: _at_rest(record))


def _first_run_is_over(record: Record) -> bool:
    """Whether it is; one that failed has stored no position to write after."""
    if not record.runs or record.runs[0].ended_s is None:
        return False
    if record.runs[0].failed:
        record.troubles.append(f"The first run {record.runs[0].ending}")
    return True


def _written_enough(record: Record, killer: Killer, writing_for_s: float) -> bool:
    killer.look(writing_for_s)
    enough_s = WRITING_AT_MOST_S if killer.pending else WRITING_S
    return writing_for_s >= enough_s or bool(record.troubles)


def _at_rest(record: Record) -> bool:
    """Whether the function has said so itself, after the last write, or nothing more will come."""
    last = next((run for run in reversed(record.runs) if run.ended_s is not None), None)
    return record.waiting == 0 and last is not None and last.ending == "caught up"


class Watch:
    """Keeps record and screen up to date while the main thread waits."""

    def __init__(self, stage: Stage, screen: demo_screen.Screen) -> None:
        self._stage, self._screen = stage, screen
        self._dynamodb = aws.dynamodb(stage.running.cloud.endpoint)
        self._sampled_at_s = 0.0

    def until(self, reached: Callable[[], bool]) -> None:
        """Look again and again, until it is so or the demo's time is over."""
        record = self._stage.record
        while not reached() and record.now_s() < END_S and not record.troubles:
            self._look()
            time.sleep(TICK_S)
        self._look()

    def _look(self) -> None:
        record = self._stage.record
        record.read_deliveries()
        if record.now_s() - self._sampled_at_s >= SAMPLE_EVERY_S:
            self._sampled_at_s = record.now_s()
            record.sample()
        table = self._stage.running.resources.table
        self._screen.show(record, demo_state.read(self._dynamodb, table, STREAM))


class Threads:
    """The demo's own threads; an error in one of them is a trouble, not a silence."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._started: list[tuple[threading.Thread, threading.Event]] = []

    def start(self, work: Callable[[threading.Event], None]) -> Callable[[], None]:
        """Start it, with the event that ends it; returns what ends it and waits for that."""
        stop = threading.Event()
        thread = threading.Thread(target=self._guarded, args=(work, stop), daemon=True)
        self._started.append((thread, stop))
        thread.start()
        return lambda: _end(thread, stop)

    def stop(self) -> None:
        """End all and wait for them."""
        for _, stop in self._started:
            stop.set()
        for thread, stop in self._started:
            _end(thread, stop)

    def _guarded(self, work: Callable[[threading.Event], None], stop: threading.Event) -> None:
        try:
            work(stop)
        except Exception as error:
            self._record.troubles.append(f"{type(error).__name__}: {error}")


def _end(thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    thread.join()


if __name__ == "__main__":
    sys.exit(main())
