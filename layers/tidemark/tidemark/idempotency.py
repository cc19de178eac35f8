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
container killed there, or a mark that DynamoDB does not take, does it again after `attempt_s`.
Costs two writes and two round trips a change, one of each for a change that comes again:
docs/sinks.md.
"""

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyAlreadyInProgressError,
)
from botocore.config import Config

from tidemark import aws
from tidemark.dynamodb import CLIENT
from tidemark.errors import ConfigError, DeliveryFailed, RetryableError, StoreUnavailable
from tidemark.model import Batch, Change

DAY_S = 24 * 60 * 60
LONGEST_S = 100 * 365 * DAY_S  # dates end

DeliverOne = Callable[[Change], object]
Deliver = Callable[[Batch], dict[str, Any] | None]
Once = Callable[[str], Callable[..., object]]


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

    `deliver_one`: an ordinary function; what it returns means nothing. `table`: with key `stream`
    (S) + `record` (S) and time to live on `expiration`; the state table if left out. `remember_s`:
    longer than a change may come again, at least the oplog's length after a restore. `attempt_s`:
    longer than one call takes; so long a killed one holds up its change, and so no longer than the
    time between two runs: one that is held up kills nobody, and is not known as a killer.
    Raises ConfigError.

    What fails says what it fails for. A RetryableError, the memory's or one that `deliver_one`
    raises, is no attempt at a change: it becomes a DeliveryFailed that says how many were
    delivered. Of other errors the first of a batch raises its own, and the answer names a later
    change that failed.
    """
    _refuse_what_cannot_work(deliver_one, remember_s, attempt_s)
    memory = _Memory(table, remember_s, attempt_s, client)

    @cache
    def once(stream: str) -> Callable[..., object]:
        """The function with its memory, made at the first change of a stream."""
        return memory.of(stream, _reporting(deliver_one))

    return partial(_deliver_each, once)


def _deliver_each(once: Once, batch: Batch) -> dict[str, Any] | None:
    for place, change in enumerate(batch):
        name = batch.change_id(change)
        try:
            _deal_with(once, batch.stream, name, change)
        except RetryableError as error:
            raise DeliveryFailed(str(error), delivered=place) from error
        except Exception:
            if place == 0:
                raise
            return {"batchItemFailures": [{"itemIdentifier": name}]}
    return None


def _refuse_what_cannot_work(deliver_one: DeliverOne, remember_s: int, attempt_s: float) -> None:
    problems = []
    if _does_nothing_when_called(deliver_one):
        problems.append(
            "idempotent: deliver_one is a coroutine or generator function, which does nothing when "
            "it is called; it must be an ordinary function"
        )
    if not 0 < attempt_s < remember_s <= LONGEST_S:
        problems.append(
            f"idempotent: attempt_s is {attempt_s} and remember_s {remember_s}: it must be "
            f"0 < attempt_s < remember_s <= {LONGEST_S}"
        )
    if problems:
        raise ConfigError(problems)


def _does_nothing_when_called(function: Callable[..., object]) -> bool:
    kinds = (
        inspect.iscoroutinefunction,
        inspect.isgeneratorfunction,
        inspect.isasyncgenfunction,
    )
    return any(is_kind(each) for is_kind in kinds for each in (function, type(function).__call__))


class _Raised(Exception):
    """`deliver_one` raised."""


def _reporting(deliver_one: DeliverOne) -> Callable[..., None]:
    """`deliver_one`, which puts what it raises into `raised`.

    Powertools is told by an error of ours: at an exit or a cancelled task it would forget nothing,
    and its own errors, raised by a user who uses it, it would take for the memory's.
    """

    def deliver_one_by_id(
        *,
        change_id: str,  # noqa: ARG001 - the key
        change: Change,
        raised: list[BaseException],
    ) -> None:
        try:
            deliver_one(change)
        except BaseException as error:
            raised.append(error)
            raise _Raised from error

    return deliver_one_by_id


def _deal_with(once: Once, stream: str, name: str, change: Change) -> None:
    """Deal with a change unless that was done.

    Raises what `deliver_one` raised, whatever the memory did then; else the memory's own failures.
    They say nothing of a change: they are no attempt at it.
    """
    raised: list[BaseException] = []
    try:
        once(stream)(change_id=name, change=change, raised=raised)
    except Exception as error:
        failure = raised[0] if raised else _of_memory(error)
    else:
        return
    raise failure  # not from within: the innermost error is the one whose place is logged


def _of_memory(error: Exception) -> RetryableError:
    failure: RetryableError
    if isinstance(error, IdempotencyAlreadyInProgressError):
        failure = DeliveryFailed("an attempt that was cut short still holds its change")
    else:
        cause = error.__cause__ or error
        response = getattr(cause, "response", None) or {}
        reason = response.get("Error", {}).get("Code") or type(cause).__name__
        failure = StoreUnavailable(f"the memory of delivered changes failed ({reason})")
    failure.__cause__ = error
    return failure


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
            boto3_client=self.client or _client(),
        )


def _client() -> Any:
    """A client of its own for each store: Powertools writes its name on all that a client sends."""
    return aws.client("dynamodb", config=CLIENT.merge(Config()))
