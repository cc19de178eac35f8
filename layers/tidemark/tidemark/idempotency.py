"""Effectively once, for what a function does to a change.

    from tidemark.idempotency import idempotent

    def deliver_one(change): ...

    deliver = idempotent(deliver_one)          # in handler/deliver.py

A change comes again after a crash (G3). Powertools Idempotency remembers, by its change id, which
have been dealt with, in the state table or one of its own:

    in progress ──▶ completed ──▶ forgotten after `remember_s`
        │ raised: forgotten at once, so that the next attempt deals with it
        └ killed: the next attempt waits until `attempt_s` after it began

What happens outside DynamoDB between an effect and the mark of its completion cannot be undone: a
container killed there does it again. Costs two writes and two round trips a change: docs/sinks.md.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import boto3
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
    IdempotencyPersistenceLayerError,
)

from tidemark.dynamodb import CLIENT
from tidemark.errors import DeliveryFailed
from tidemark.model import Batch, Change

DAY_S = 24 * 60 * 60

DeliverOne = Callable[[Change], object]
Deliver = Callable[[Batch], dict[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Attempt:
    """How long an attempt may take: all that Powertools asks of a Lambda context."""

    attempt_s: float

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until another attempt may begin."""
        return int(self.attempt_s * 1000)


def idempotent(
    deliver_one: DeliverOne,
    *,
    table: str | None = None,
    remember_s: int = DAY_S,
    attempt_s: float = 60.0,
    client: Any = None,
) -> Deliver:
    """A `deliver` that calls `deliver_one` once for each change, however often it comes.

    `table`: with key `stream` (S) + `record` (S) and time to live on `expiration`; the state table
    if left out. `remember_s`: longer than a change may come again, at least the oplog's length
    after a restore. `attempt_s`: longer than one call takes; so long a killed one holds up its
    change. The answer names the change that failed; the first of a batch raises its own error.
    """
    memory = _Memory(table, remember_s, attempt_s, client)

    @cache
    def once(stream: str) -> Callable[..., object]:
        """The function with its memory, made at the first change of a stream."""
        return memory.of(stream, _by_id(deliver_one))

    def deliver(batch: Batch) -> dict[str, Any] | None:
        for place, change in enumerate(batch):
            name = batch.change_id(change)
            try:
                with _as_delivery_failed():
                    once(batch.stream)(change_id=name, change=change)
            except Exception:
                if place == 0:
                    raise
                return {"batchItemFailures": [{"itemIdentifier": name}]}
        return None

    return deliver


def _by_id(deliver_one: DeliverOne) -> Callable[..., None]:
    def deliver_one_by_id(*, change_id: str, change: Change) -> None:  # noqa: ARG001 - the key
        deliver_one(change)

    return deliver_one_by_id


@dataclass(frozen=True, slots=True)
class _Memory:
    """Which changes have been dealt with; a stream's are a partition beside its position's."""

    table: str | None
    remember_s: int
    attempt_s: float
    client: Any

    def of(self, stream: str, function: Callable[..., None]) -> Callable[..., object]:
        """`function`, which remembers by its argument `change_id`."""
        remembering: Callable[..., object] = idempotent_function(
            function,
            data_keyword_argument="change_id",
            persistence_store=self._store(stream),
            config=IdempotencyConfig(
                expires_after_seconds=self.remember_s,
                lambda_context=Attempt(self.attempt_s),  # type: ignore[arg-type]
                hash_function="sha256",
            ),
            key_prefix="change",
        )
        return remembering

    def _store(self, stream: str) -> DynamoDBPersistenceLayer:
        return DynamoDBPersistenceLayer(
            table_name=self.table or os.environ["TIDEMARK_TABLE"],
            key_attr="stream",
            static_pk_value=f"{stream}#delivered",
            sort_key_attr="record",
            boto3_client=self.client or boto3.client("dynamodb", config=CLIENT),
        )


@contextmanager
def _as_delivery_failed() -> Iterator[None]:
    """The memory's failures say nothing of a change: they are no attempt at it."""
    try:
        yield
    except IdempotencyAlreadyInProgressError:
        raise DeliveryFailed("an attempt that was killed still holds its change") from None
    except IdempotencyPersistenceLayerError as error:
        cause = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code", "no answer")
        raise DeliveryFailed(f"the memory of delivered changes failed ({cause})") from None
