"""The real handler in Lambda's runtime: containers that come, go, hang and are killed."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import boto3
import pymongo.uri_parser
import pytest

import aws
from container import Container, Function
from tcp_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mypy_boto3_dynamodb import DynamoDBClient
    from pymongo.database import Database

    Db: TypeAlias = Database[dict[str, Any]]

# Records each batch it was given, at its end; `plan.json` says at which key it does what instead.
DELIVER = """
import json, os, time
from pathlib import Path

HERE = Path(__file__).parent

def deliver(batch):
    plan = json.loads((HERE / "plan.json").read_text())
    keys = [change["documentKey"]["_id"] for change in batch]
    for key in keys:
        action = plan.get(str(key))
        if action == "exit":
            os._exit(3)
        if action == "hang":
            time.sleep(60)
        if action == "wait":
            (HERE / "waiting").touch()
            time.sleep(0.5)
    with (HERE / "delivered.jsonl").open("a") as record:
        record.write(json.dumps(keys) + chr(10))
"""
STREAMS = """
[run]
reserve_s = 1
max_await_ms = 50
[[stream]]
name = "orders"
database = "{database}"
collection = "orders"
max_changes = 10
max_attempts = 2
idle_s = 0.05
checkpoint_interval_s = 0
"""


@dataclass(frozen=True)
class Deployment:
    """The function as it is deployed, what its `deliver` does and did, and its lease."""

    function: Function
    folder: Path
    dynamodb: DynamoDBClient
    table: str
    letters: Callable[[], list[dict[str, Any]]]

    def plan(self, **actions: str) -> None:
        """At which keys `deliver` does "exit", "hang" or "wait"; none by default."""
        keys = {key.removeprefix("at_"): action for key, action in actions.items()}
        (self.folder / "plan.json").write_text(json.dumps(keys))

    @property
    def batches(self) -> list[list[int]]:
        """The keys of each batch delivered to its end."""
        record = self.folder / "delivered.jsonl"
        return [json.loads(line) for line in record.read_text().splitlines()]

    @property
    def keys(self) -> list[int]:
        """The keys delivered, with repeats."""
        return [key for batch in self.batches for key in batch]

    def expire(self) -> None:
        """The lease's time passes."""
        self.dynamodb.update_item(
            TableName=self.table,
            Key={"stream": {"S": "orders"}, "record": {"S": "checkpoint"}},
            UpdateExpression="SET lease_expires_at_ms = :now",
            ExpressionAttributeValues={":now": {"N": "1"}},
        )

    def wait_for_delivery(self) -> None:
        """Until `deliver` is at a key at which it waits."""
        while not (self.folder / "waiting").exists():
            time.sleep(0.005)


@pytest.fixture
def proxy(mongodb_uri: str) -> Iterator[Proxy]:
    [(host, port)] = pymongo.uri_parser.parse_uri(mongodb_uri)["nodelist"]
    with Proxy((host, port)) as running:
        yield running


@pytest.fixture
def deployed(
    function_environment: dict[str, str],
    aws_endpoint: str,
    proxy: Proxy,
    database: Db,
    tmp_path: Path,
) -> Deployment:
    (tmp_path / "deliver.py").write_text(DELIVER)
    streams = tmp_path / "streams.toml"
    streams.write_text(STREAMS.format(database=database.name))
    resources, sqs = aws.create_resources(aws_endpoint), boto3.client("sqs")

    def letters() -> list[dict[str, Any]]:
        found = sqs.receive_message(QueueUrl=resources.queue_url, MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in found.get("Messages", [])]

    told = {
        "MONGODB_URI": proxy.mongodb_uri,
        "TIDEMARK_STREAMS": str(streams),
        "TIDEMARK_DEAD_LETTER_QUEUE_URL": resources.queue_url,
    }
    function = Function(environment=function_environment | told, timeout_s=6, before=(tmp_path,))
    table = function_environment["TIDEMARK_TABLE"]
    made = Deployment(function, tmp_path, aws.dynamodb(aws_endpoint), table, letters)
    made.plan()
    return made


def warmed(deployed: Deployment, container: Callable[..., Container]) -> Container:
    """A cold container that has run once, so that the stream has its position."""
    made = container(deployed.function)
    answer = made.invoke()
    assert answer.error is None, answer.log
    return made


def named(log: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [line for line in log if line.get("event") == event]


def first_seen(keys: list[int]) -> list[int]:
    return list(dict.fromkeys(keys))


def test_a_warm_container_keeps_its_client(
    deployed: Deployment, container: Callable[..., Container], proxy: Proxy, database: Db
) -> None:
    """One client a container, kept across invocations."""
    warm = container(deployed.function)
    cold = warm.invoke()
    assert cold.error is None, cold.log
    connections = proxy.accepted
    database.orders.insert_many([{"_id": key} for key in range(25)])
    again = warm.invoke()
    assert again.result["streams"]["orders"]["changes"] == 25
    assert deployed.keys == list(range(25))
    assert proxy.accepted == connections
    assert len(named(cold.events, "source.connected")) == 1
    assert named(again.events, "source.connected") == []


def test_each_line_of_the_log_names_its_request_and_stream(
    deployed: Deployment, container: Callable[..., Container]
) -> None:
    warm = container(deployed.function)
    [first], [second] = (named(warm.invoke().events, "run.ended") for _ in range(2))
    assert (first["cold_start"], second["cold_start"]) == (True, False)
    assert first["function_request_id"] != second["function_request_id"]
    assert (first["stream"], first["service"]) == ("orders", "tidemark")


def test_the_deadline_is_kept_when_the_server_stalls_in_mid_run(
    deployed: Deployment, container: Callable[..., Container], proxy: Proxy, database: Db
) -> None:
    """G5: an error in words instead of Lambda's timeout; then the stream goes on."""
    warm = warmed(deployed, container)
    database.orders.insert_many([{"_id": key} for key in range(15)])
    deployed.plan(at_5="wait")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(warm.invoke)
        deployed.wait_for_delivery()
        proxy.stall()
        answer = running.result()
    assert not answer.timed_out
    assert not answer.killed
    assert "StreamsFailed" in str(answer.result)
    proxy.go()
    deployed.plan()
    assert warm.invoke().error is None
    assert deployed.keys == list(range(15))


def test_a_sink_that_hangs_ends_the_container_and_the_next_one_continues(
    deployed: Deployment, container: Callable[..., Container], database: Db
) -> None:
    """G1, G5: the place is logged, the metrics are flushed, the position is unchanged."""
    warm = warmed(deployed, container)
    database.orders.insert_many([{"_id": key, "canary": "canary"} for key in range(15)])
    deployed.plan(at_12="hang")
    answer = warm.invoke()
    assert answer.status == 502
    assert "exit status 1" in answer.body
    [hung] = named(answer.events, "deliver.hung")
    assert any(place.startswith(f"{deployed.folder}/deliver.py:") for place in hung["stack"])
    assert "canary" not in answer.log
    assert [line["RunsFailed"] for line in answer.events if "_aws" in line] == [[1.0]]
    deployed.expire()
    deployed.plan()
    assert warm.invoke().error is None
    assert deployed.keys == list(range(15))


def test_a_container_killed_in_mid_run_loses_nothing(
    deployed: Deployment, container: Callable[..., Container], database: Db
) -> None:
    """G1, G2, G3: only the batch that was not checkpointed comes again."""
    warm = warmed(deployed, container)
    database.orders.insert_many([{"_id": key} for key in range(45)])
    deployed.plan(at_25="wait")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(warm.invoke)
        deployed.wait_for_delivery()
        assert warm.kill_runtime()
        assert running.result().killed
    deployed.expire()
    deployed.plan()
    assert warm.invoke().error is None
    assert first_seen(deployed.keys) == list(range(45))
    assert len(deployed.keys) <= 45 + 10


def test_a_change_that_kills_its_container_becomes_a_dead_letter(
    deployed: Deployment, container: Callable[..., Container], database: Db
) -> None:
    """G1, G2: it raises nothing and is found all the same; all others are delivered."""
    warm = warmed(deployed, container)
    database.orders.insert_many([{"_id": key} for key in range(15)])
    deployed.plan(at_7="exit")
    answers = []
    for _ in range(8):
        answers.append(warm.invoke())
        if answers[-1].status == 200:
            break
        deployed.expire()
    assert answers[-1].error is None
    assert 3 <= sum(answer.status == 502 for answer in answers) <= 5
    [letter] = deployed.letters()
    assert (letter["errorType"], letter["attempts"]) == ("ContainerKilled", 2)
    assert letter["change"]["documentKey"] == {"_id": {"$numberInt": "7"}}
    assert first_seen(deployed.keys) == [key for key in range(15) if key != 7]


def test_two_containers_racing_deliver_everything_once(
    deployed: Deployment, container: Callable[..., Container], database: Db
) -> None:
    """G4: the loser ends at once, without an error."""
    pair = [warmed(deployed, container), container(deployed.function)]
    stops = []
    with ThreadPoolExecutor(2) as pool:
        for turn in range(6):
            database.orders.insert_many([{"_id": turn * 20 + key} for key in range(20)])
            answers = list(pool.map(lambda each: each.invoke(), pair))
            assert [answer.error for answer in answers] == [None, None]
            stops += [answer.result["streams"]["orders"]["stop_reason"] for answer in answers]
    assert deployed.keys == list(range(120))
    assert set(stops) <= {"caught_up", "lease_held"}
