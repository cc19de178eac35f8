"""G8: nothing private leaks, whatever fails and however much is logged."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeAlias

import boto3
import pytest

import aws
from service import Recorder, Service, service, settings_of
from tidemark.connection import connection_string
from tidemark.errors import TidemarkError
from tidemark.invocation import StreamsFailed
from tidemark.settings import Settings, StreamSettings
from tidemark.telemetry import describe

if TYPE_CHECKING:
    from collections.abc import Callable

    from pymongo.database import Database

    from tidemark.model import Batch

    Db: TypeAlias = Database[dict[str, Any]]
    Orders: TypeAlias = Callable[..., StreamSettings]
    Serve: TypeAlias = Callable[..., Service]

CANARY = "canary-7f3a"


@pytest.fixture
def everything_said(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Callable[[Service, str], str]:
    """All that a run logged, printed, measured and raised, with the debug log of every library."""
    caplog.set_level(logging.DEBUG)

    def said(container: Service, error: str) -> str:
        printed = capfd.readouterr()
        everything = [container.log.getvalue(), caplog.text, printed.out, printed.err, error]
        assert '"_aws"' in printed.out
        assert container.events
        return "\n".join(everything)

    return said


def _raise(batch: Batch) -> None:
    raise ValueError(f"{CANARY} {list(batch)} {batch}")


def _raise_chained(batch: Batch) -> None:
    try:
        _raise(batch)
    except ValueError as error:
        raise KeyError(CANARY) from error


def _answer(batch: Batch) -> object:
    return {"batchItemFailures": [{"itemIdentifier": f"{CANARY} {len(batch)}"}]}


def _answer_nonsense(_: Batch) -> object:
    return [CANARY]


def _exit(_: Batch) -> None:
    raise SystemExit(CANARY)


@pytest.mark.parametrize("deliver", [_raise, _raise_chained, _answer, _answer_nonsense, _exit])
def test_a_failing_deliver_tells_nothing_of_its_documents(
    deliver: Callable[[Batch], object],
    database: Db,
    orders: Orders,
    serve: Serve,
    everything_said: Callable[[Service, str], str],
) -> None:
    """G8: neither its message, nor its answer, nor the batch."""
    container = serve(orders(max_attempts=9), deliver=Recorder(deliver))
    container.run()
    database.orders.insert_one({"_id": CANARY, "text": CANARY})
    logging.getLogger("pymongo").setLevel(logging.INFO)
    with pytest.raises(StreamsFailed) as failed:
        container.run(remaining_ms=1200)
    assert CANARY not in everything_said(container, str(failed.value))


def test_a_poison_change_is_told_by_its_id_alone(
    database: Db,
    orders: Orders,
    serve: Serve,
    aws_endpoint: str,
    everything_said: Callable[[Service, str], str],
) -> None:
    """G8: only the dead letter holds it."""
    queue = aws.create_resources(aws_endpoint).queue_url
    container = serve(orders(max_attempts=1), deliver=Recorder(_raise), dead_letter_queue_url=queue)
    container.run()
    database.orders.insert_one({"_id": CANARY, "text": CANARY})
    container.run()
    assert CANARY not in everything_said(container, "")
    [letter] = boto3.client("sqs").receive_message(QueueUrl=queue)["Messages"]
    assert CANARY in letter["Body"]
    [told] = container.named("dead_letter.stored")
    assert told["change_id"] in letter["Body"]


def test_a_delivered_document_is_in_no_log(
    database: Db,
    orders: Orders,
    serve: Serve,
    everything_said: Callable[[Service, str], str],
) -> None:
    """G8: not even at debug level, where the driver would log whole answers."""
    container = serve(orders())
    container.run()
    database.orders.insert_one({"_id": CANARY})
    container.run()
    assert container.deliver.keys == [CANARY]
    assert CANARY not in everything_said(container, "")


def test_a_refusal_by_the_server_repeats_none_of_its_words(
    database: Db,
    orders: Orders,
    serve: Serve,
    everything_said: Callable[[Service, str], str],
) -> None:
    """G8: its messages may quote a document or a pipeline."""
    pipeline = ({"$match": {"$expr": {"$divide": [CANARY, "$fullDocument.x"]}}},)
    container = serve(orders(pipeline=pipeline))
    container.run()
    database.orders.insert_one({"_id": 1, "x": CANARY})
    with pytest.raises(StreamsFailed, match=r"MongoDB refused .* \(code \d+, \w+\)") as failed:
        container.run()
    assert CANARY not in everything_said(container, str(failed.value))


@pytest.mark.parametrize(
    "uri",
    [
        f"mongodb://{CANARY}:{CANARY}@127.0.0.1:1/?serverSelectionTimeoutMS=300",
        f"mongodb://user:{CANARY}:{CANARY}@host/",
        f"mongodb://{CANARY}:port/",
        f"mongodb://user:{CANARY}@{{address}}/?directConnection=true",
    ],
    ids=["unreachable", "malformed", "no port", "refused"],
)
def test_a_connection_that_fails_tells_neither_user_nor_password(
    uri: str,
    mongodb_uri: str,
    orders: Orders,
    serve: Serve,
    everything_said: Callable[[Service, str], str],
) -> None:
    """G8."""
    address = mongodb_uri.removeprefix("mongodb://").partition("/")[0]
    container = serve(orders(), uri=uri.format(address=address))
    with pytest.raises(StreamsFailed) as failed:
        container.run()
    assert CANARY not in everything_said(container, str(failed.value))


def test_errors_in_a_circle_are_told_once() -> None:
    """G5: a driver that retries raises its last error from one that it had raised before."""
    first, last = ValueError(CANARY), KeyError(CANARY)
    first.__context__, last.__cause__ = last, first
    told = describe(last)
    assert (told["error_type"], told["caused_by"]) == ("KeyError", ["ValueError"])
    assert CANARY not in str(told)


@pytest.mark.parametrize("value", [CANARY, f'{{"url": "{CANARY}"}}', f'{{"uri": ["{CANARY}"]}}'])
def test_a_secret_that_is_no_connection_string_is_not_shown(value: str) -> None:
    """G8."""
    with pytest.raises(TidemarkError, match="no connection string") as refused:
        connection_string(value, "MONGODB_SECRET_ID")
    assert CANARY not in str(refused.value)


@pytest.mark.usefixtures("behind_proxy")
def test_settings_do_not_show_the_connection_string(table: str) -> None:
    """G8: nor does anything that holds them."""
    settings: Settings = settings_of(f"mongodb://u:{CANARY}@h/", table, StreamSettings(name="o"))
    container = service(settings)
    assert CANARY not in f"{settings!r} {container!r}"
    container.source.close()
