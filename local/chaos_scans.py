"""A stream that fell behind, at full scale: the server scans for longer than a run lasts.

`make chaos` runs this file after the kills. Three servers of our own (`local/servers/`) hold 60,000
entries that cost 0.7 ms each to scan, with a change of ours at 0, 20,000 and 40,000. One scans on
until it finds something, one answers empty with a token that moves, one is mongos, whose token
stands still. The real handler reads each in runs of 40 s. Then 40,000 entries more, a change behind
them, and one run of 8 s, which cannot get there and has to say so. Exits with 0 only if each run
got as far as its server let it (G11).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aws
import servers
import world
from container import Answer, Container, Function, open_container

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from servers import Character, Server

STREAMS = """
[[stream]]
name = "orders"
database = "shop"
collection = "orders"
"""
COLLECTION = "shop.orders"
DELIVER = Path(__file__).with_name("demo_function")
COST_S = 0.0007
APART, MATCHES = 20_000, 3
AGAIN = 40_000
LONG_S, SHORT_S = 40, 8
MOST_RUNS = 3
SCAN_ENDS_WITHIN_S = 2.0


@dataclass(frozen=True)
class Scene:
    """One kind of server. `moves`: its empty answers show how far the scan has come."""

    name: str
    character: Character
    moves: bool = False


SCENES = (
    Scene("mongod, scans on", servers.MONGOD_LONG_SCANS),
    Scene("mongod, empties that move", servers.MONGOD_EMPTIES, moves=True),
    Scene("mongos, empties that stand", replace(servers.MONGOS, scan_cost_s=COST_S)),
)


@dataclass(frozen=True)
class Run:
    """One invocation: what it delivered, where it ended, and what it left on the server."""

    delivered: tuple[str, ...]
    position: str | None
    stop_reason: str | None
    took_s: float = 0.0
    says_scanning: bool = False
    left_behind: int = 0
    error: str | None = None


@dataclass
class Play:
    """What happened with one kind of server."""

    scene: Scene
    began_at: str | None = None
    long: list[Run] = field(default_factory=list)
    short: Run | None = None
    last: Run | None = None

    @property
    def runs(self) -> list[Run]:
        """All of them, in order."""
        return [*self.long, *(run for run in (self.short, self.last) if run is not None)]


def names(first: int, count: int) -> tuple[str, ...]:
    """The documents that are written, by the index of their entry."""
    return tuple(str(first + number * APART) for number in range(count))


EARLY, LATE = names(0, MATCHES), ("last",)


# ------------------------------------------------------------------------------- the verdict, pure


def judge(play: Play) -> list[str]:
    """Each promise that did not hold, in words; none if all did."""
    if play.short is None or play.last is None or not play.long:
        return ["it did not come to its end"]
    return [
        *_common(play.runs),
        *_fell_behind(play.long),
        *_short(play.scene, play.long[-1], play.short),
        *_last(play.last),
    ]


def _common(runs: Iterable[Run]) -> Iterable[str]:
    for number, run in enumerate(runs, 1):
        if run.error is not None:
            yield f"run {number} failed: {run.error}"
        if run.left_behind:
            yield f"run {number} left {run.left_behind} scans behind on the server"


def _fell_behind(runs: Sequence[Run]) -> Iterable[str]:
    """All three changes lie within the first run's time."""
    if runs[0].delivered != EARLY:
        yield f"the first run of {LONG_S} s delivered {list(runs[0].delivered)}, not {list(EARLY)}"
    if tuple(name for run in runs for name in run.delivered) != EARLY:
        yield "the runs together did not deliver each change once, in order"
    if runs[-1].stop_reason != "caught_up":
        yield f"it was not caught up after {len(runs)} runs"


def _short(scene: Scene, before: Run, run: Run) -> Iterable[str]:
    """What cannot be reached must be told, or approached."""
    has_moved = run.position != before.position
    if run.stop_reason != "budget":
        yield f"a run that reached nothing ended as {run.stop_reason}"
    if scene.moves and not has_moved:
        yield "the server's token moved, and the position did not"
    if not scene.moves and not run.says_scanning:
        yield "a run that reached nothing did not say stream.scanning"


def _last(run: Run) -> Iterable[str]:
    if run.delivered != LATE:
        yield f"the run after the short one delivered {list(run.delivered)}, not {list(LATE)}"


# ------------------------------------------------------------------------------------- the play


@dataclass
class Reader:
    """The function on one server, in containers of a long and of a short time."""

    server: Server
    deliveries: Path
    containers: Mapping[int, Container]
    _seen: int = 0
    _left: int = 0

    def run(self, budget_s: int = LONG_S) -> Run:
        """Invoke it once."""
        began_s = time.monotonic()
        answer = self.containers[budget_s].invoke({})
        took_s = time.monotonic() - began_s
        stream = _stream_of(answer)
        return Run(
            self._delivered(),
            stream.get("position"),
            stream.get("stop_reason"),
            took_s,
            any(event.get("event") == "stream.scanning" for event in answer.events),
            self._scans_that_go_on(),
            answer.error or stream.get("error"),
        )

    def _delivered(self) -> tuple[str, ...]:
        lines = self.deliveries.read_text().splitlines() if self.deliveries.exists() else []
        new, self._seen = lines[self._seen :], len(lines)
        return tuple(json.loads(line)["document"] for line in new)

    def _scans_that_go_on(self) -> int:
        """How many this run has left to themselves; a scan needs a moment to see its end."""
        give_up_s = time.monotonic() + SCAN_ENDS_WITHIN_S
        while self.server.scans_running and time.monotonic() < give_up_s:
            time.sleep(0.05)
        before, self._left = self._left, self.server.scans_left_behind
        return self._left - before


def _stream_of(answer: Answer) -> dict[str, Any]:
    result = answer.result if isinstance(answer.result, dict) else {}
    found: dict[str, Any] = result.get("streams", {}).get("orders", {})
    return found


def play(scene: Scene, cloud: aws.Server, folder: Path) -> Play:
    """Let the stream begin, fall behind and catch up; then let one run be too short."""
    done = Play(scene)
    with servers.serve(scene.character) as server:
        reader = _reader(server, cloud, folder)
        try:
            done.began_at = reader.run().position
            _write(server, EARLY, APART)
            while len(done.long) < MOST_RUNS and not _is_caught_up(done.long):
                done.long.append(reader.run())
            _write(server, (), AGAIN)
            _write(server, LATE, 0)
            done.short = reader.run(SHORT_S)
            done.last = reader.run()
        finally:
            for container in reader.containers.values():
                container.stop()
    return done


def _is_caught_up(runs: Sequence[Run]) -> bool:
    return bool(runs) and runs[-1].stop_reason == "caught_up"


def _write(server: Server, documents: Sequence[str], foreign: int) -> None:
    """Each document, and behind it what is nobody's; or that alone."""
    for name in documents:
        server.insert(COLLECTION, {"_id": name, "version": 1, "region": "eu"})
        server.foreign(foreign)
    if not documents:
        server.foreign(foreign)


def _reader(server: Server, cloud: aws.Server, folder: Path) -> Reader:
    """Containers of the real handler that share a table, and so a position."""
    folder.mkdir()
    streams, deliveries = folder / "streams.toml", folder / "deliveries"
    streams.write_text(STREAMS)
    made = aws.create_resources(cloud.endpoint, f"tidemark-{folder.name}")
    environment = {
        **world.World(server.uri, cloud, made).environment(),
        "TIDEMARK_STREAMS": str(streams),
        "TIDEMARK_RESERVE_S": "2",
        "DEMO_DELIVERIES": str(deliveries),
    }
    containers = {
        budget_s: _container({**environment, "TIDEMARK_BUDGET_S": str(budget_s)}, budget_s)
        for budget_s in (LONG_S, SHORT_S)
    }
    return Reader(server, deliveries, containers)


def _container(environment: Mapping[str, str], budget_s: int) -> Container:
    function = Function(environment=environment, timeout_s=budget_s + 5, before=(DELIVER,))
    container, _ = open_container(function)
    container.start()
    return container


# -------------------------------------------------------------------------------------- the report


def text(play: Play) -> str:
    """What became of one kind of server."""
    rows = [f"{play.scene.name}:"]
    for number, run in enumerate(play.runs, 1):
        said = ", stream.scanning" if run.says_scanning else ""
        rows.append(
            f"  run {number}: {run.took_s:5.1f} s, {len(run.delivered)} delivered, "
            f"{run.stop_reason}{said}"
        )
    return "\n".join([*rows, *(f"  BROKEN: {fault}" for fault in judge(play))])


def main() -> int:
    """Play all three at the same time; they wait most of it."""
    print(f"A stream that fell behind: {MATCHES * APART:,} entries, runs of {LONG_S} s", flush=True)
    with tempfile.TemporaryDirectory(prefix="tidemark-scans-") as kept, aws.serve() as cloud:
        folders = [Path(kept) / str(number) for number in range(len(SCENES))]
        with ThreadPoolExecutor(len(SCENES)) as threads:
            plays = list(threads.map(play, SCENES, [cloud] * len(SCENES), folders))
    for each in plays:
        print(text(each), flush=True)
    broken = any(judge(each) for each in plays)
    print("BROKEN" if broken else "KEPT: each run got as far as its server let it")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
