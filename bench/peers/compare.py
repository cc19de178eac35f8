"""The well-known recipe next to Tidemark: what each loses under kills, its speed, its memory.

All read the same collection's stream of the same server, one run a second, and note each delivered
`_id` in a file of their own, which is all that is judged. Peers come from their registries.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pymongo import MongoClient

import aws
import child
import mongodb
from figures import Label, at_most

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from figures import Figure
    from plan import Plan

HERE = Path(__file__).parent
INSTALLED = child.ROOT / ".tidemark" / "peers"
DATABASE = "tidemark_peers"
WRITES, PAUSE_S = 2_000, 0.01
KILLS_S = (5.0, 10.0, 15.0)  # since the writing began
PERIOD_S = 1.0
SETTLED_RUNS = 4  # runs in a row that deliver nothing, beyond the longest lease
BACKLOG = 20_000
Answer = dict[str, Any]


@dataclass
class Container:
    """One peer's process; a killed one is replaced at its next run."""

    command: Sequence[str]
    environment: dict[str, str]
    deliveries: Path
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def run(self) -> Answer:
        """One invocation; empty where it was killed meanwhile."""
        process = self._started()
        try:
            _pipe(process.stdin).write("run\n")
            _pipe(process.stdin).flush()
        except BrokenPipeError:
            return {}
        line = _pipe(process.stdout).readline()
        answer: Answer = json.loads(line) if line else {}
        return answer

    def kill(self) -> None:
        """SIGKILL, as a container's end."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def delivered(self) -> list[int]:
        """Every `_id` in the order of delivery; a line that a kill cut short is none."""
        if not self.deliveries.exists():
            return []
        whole = self.deliveries.read_text().rpartition("\n")[0]
        return [int(line) for line in whole.splitlines()]

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [*self.command, str(self.deliveries)],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        return self._process


@dataclass(frozen=True)
class Outcome:
    """What became of one peer."""

    lost: int
    repeated: int
    changes_per_s: float
    peak_mb: float


def figures(plan: Plan) -> Iterator[Figure]:
    """Each peer alone on the server, once a round."""
    rounds = 1 if plan.quick else 3
    with ExitStack() as stack:
        uri = stack.enter_context(mongodb.given_or_embedded())
        cloud = stack.enter_context(aws.serve())
        made = peers(uri, cloud)
        outcomes = {name: [_outcome(uri, *peer) for _ in range(rounds)] for name, peer in made}
    for what, unit, key in (
        (f"lost of {WRITES:,} inserts while killed {len(KILLS_S)} times", "changes", "lost"),
        ("delivered again", "changes", "repeated"),
        ("of what is waiting", "changes/s", "changes_per_s"),
        ("peak", "MB", "peak_mb"),
    ):
        for name, several in outcomes.items():
            target = at_most(0) if (name, key) == ("Tidemark", "lost") else None
            label = Label("peers", name, what, unit, target)
            yield label.of([getattr(outcome, key) for outcome in several])


def peers(uri: str, cloud: aws.Server) -> Iterator[tuple[str, tuple[list[str], dict[str, str]]]]:
    """Each peer's command, less the collection and the file, and its environment."""
    table = {"TIDEMARK_TABLE": aws.create_table(cloud.endpoint)}
    ours = child.environment(cloud.environment() | table)
    yield "Tidemark", ([sys.executable, str(HERE / "ours.py"), uri, DATABASE], ours)
    plain = child.environment({})
    recipe = str(HERE / "recipe.py")
    yield "the recipe in Python", ([sys.executable, recipe, uri, DATABASE], plain)
    if node := shutil.which("node"):
        script = [node, str(HERE / "recipe.mjs"), str(_installed())]
        for library in ("mongoose", "mongodb"):
            yield f"the recipe in Node, {library}", ([*script, library, uri, DATABASE], plain)


def _installed() -> Path:
    """node_modules with what package.json names, installed once."""
    INSTALLED.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "package.json", INSTALLED)
    npm = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(npm, cwd=INSTALLED, check=True)
    return INSTALLED / "node_modules"


def _outcome(uri: str, command: list[str], environment: dict[str, str]) -> Outcome:
    with MongoClient[Any](uri) as client:
        lost, repeated = _under_kills(client, command, environment)
        changes_per_s, peak_mb = _backlog(client, command, environment)
        client.drop_database(DATABASE)
    return Outcome(lost, repeated, changes_per_s, peak_mb)


@contextmanager
def _container(
    client: MongoClient[Any], command: list[str], environment: dict[str, str]
) -> Iterator[tuple[Container, Any]]:
    """A container that has run once, so that it has a position, and its collection."""
    with tempfile.TemporaryDirectory() as folder:
        name = f"changes_{time.monotonic_ns()}"
        made = Container([*command, name], environment, Path(folder) / "deliveries")
        client[DATABASE].create_collection(name)
        made.run()
        try:
            yield made, client[DATABASE][name]
        finally:
            made.kill()


def _under_kills(
    client: MongoClient[Any], command: list[str], environment: dict[str, str]
) -> tuple[int, int]:
    """How many changes were lost, and how many came again."""
    with _container(client, command, environment) as (container, collection):
        begun = time.monotonic()
        threads = [
            threading.Thread(target=_write, args=(collection, range(WRITES))),
            *(threading.Timer(after_s, container.kill) for after_s in KILLS_S),
        ]
        for thread in threads:
            thread.start()
        quiet = 0
        while any(thread.is_alive() for thread in threads) or quiet < SETTLED_RUNS:
            before = len(container.delivered())
            container.run()
            quiet = 0 if len(container.delivered()) > before else quiet + 1
            time.sleep(PERIOD_S - (time.monotonic() - begun) % PERIOD_S)
        delivered = container.delivered()
    return WRITES - len(set(delivered)), len(delivered) - len(set(delivered))


def _backlog(
    client: MongoClient[Any], command: list[str], environment: dict[str, str]
) -> tuple[float, float]:
    """Changes a second of the runs that deliver what was written before them, and peak memory."""
    with _container(client, command, environment) as (container, collection):
        collection.insert_many([{"_id": number} for number in range(BACKLOG)])
        answers: list[Answer] = []
        while sum(answer["changes"] for answer in answers) < BACKLOG:
            answers.append(container.run())
            if not answers[-1].get("changes"):
                break  # the rest is lost
    seconds, changes = (sum(answer[of] for answer in answers) for of in ("seconds", "changes"))
    return changes / seconds, max(answer["peak_mb"] for answer in answers)


def _write(collection: Any, numbers: range) -> None:
    """Acknowledged inserts at an even pace."""
    due = time.monotonic()
    for number in numbers:
        collection.insert_one({"_id": number})
        due += PAUSE_S
        time.sleep(max(0.0, due - time.monotonic()))


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise AssertionError("the process was started without pipes")
    return pipe
