"""The checkpoint store on DynamoDB: lease and checkpoint of a stream in one item.

    acquire    if free, expired or already ours; and running, and of a schema that we know
    the rest   if the fencing token is ours, and nothing else

Both conditions hold when the SDK repeats a write that had already succeeded. Key: `stream` (S) and
`record` (S), which is "checkpoint", or "gap#<ISO time>" for a gap. `item.py` knows the attributes;
those that it does not know survive every write.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tidemark.errors import LeaseLost, StateRefused, StoreRefused, StoreUnavailable
from tidemark.item import (
    SCHEMA_VERSION,
    Values,
    acquired_from,
    attempt_values,
    attribute,
    checkpoint_values,
    gap_values,
    not_acquired_from,
)
from tidemark.model import Acquired, Attempts, Checkpoint, Gap, Lease, NotAcquired, Status

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

# Two attempts of 0.5 s to connect and 1 s to answer, at most 1 s apart: 4 s, inside the reserve.
CLIENT = Config(
    connect_timeout=0.5,
    read_timeout=1,
    retries={"total_max_attempts": 2, "mode": "standard"},
    max_pool_connections=50,
)

ACQUIRE = (
    "SET lease_owner = :me, lease_expires_at_ms = :expiry, "
    "fencing_token = if_not_exists(fencing_token, :zero) + :one, "
    "unreleased_runs = if_not_exists(unreleased_runs, :zero) + :one"
)
IS_FREE = "attribute_not_exists(lease_expires_at_ms) OR lease_expires_at_ms <= :now"
IS_RUNNING = "attribute_not_exists(#status) OR #status = :running"
IS_KNOWN = "attribute_not_exists(schema_version) OR schema_version <= :schema"
MAY_ACQUIRE = f"({IS_FREE} OR lease_owner = :me) AND ({IS_RUNNING}) AND ({IS_KNOWN})"
IS_HOLDER = "fencing_token = :mine"

REFUSALS = {
    "ResourceNotFoundException": "the table does not exist in this region: check TIDEMARK_TABLE",
    "AccessDeniedException": "the function's role lacks {operation} on the table",
    "UnrecognizedClientException": "the credentials are not valid for this account",
    "ValidationException": "the table's key is not stream (S) + record (S)",
}


class DynamoCheckpoints:
    """Checkpoints in one DynamoDB table."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table

    def acquire(
        self, stream: str, owner: str, *, now_ms: int, expires_at_ms: int
    ) -> Acquired | NotAcquired:
        """Take the lease of `stream` for `owner`, and read its item, in one request.

        Conditional on the lease being free, expired or `owner`'s, the status being running, and the
        schema being known. Sets owner, expiry, a higher fencing token, one more unreleased run.
        """
        values: dict[str, str | int] = {
            ":me": owner,
            ":expiry": expires_at_ms,
            ":now": now_ms,
            ":zero": 0,
            ":one": 1,
            ":running": Status.RUNNING.value,
            ":schema": SCHEMA_VERSION,
        }
        try:
            with _translated(stream):
                answer = self._client.update_item(
                    TableName=self._table,
                    Key=_key(stream),
                    UpdateExpression=ACQUIRE,
                    ConditionExpression=MAY_ACQUIRE,
                    ExpressionAttributeNames={"#status": "status"},
                    ExpressionAttributeValues=_attributes(values),
                    ReturnValues="ALL_OLD",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
        except _ConditionFailed as failed:
            return not_acquired_from(failed.item)
        old = answer.get("Attributes", {})
        fencing_token = int(old["fencing_token"]["N"]) + 1 if "fencing_token" in old else 1
        lease = Lease(stream, owner, fencing_token, expires_at_ms)
        try:
            return acquired_from(old, lease)
        except StateRefused:
            self._update(lease, {"lease_expires_at_ms": 0, "unreleased_runs": 0})
            raise

    def renew(self, lease: Lease, *, expires_at_ms: int) -> None:
        """Move the lease's end. Conditional on the fencing token; raises LeaseLost."""
        self._update(lease, {"lease_expires_at_ms": expires_at_ms})

    def save(
        self, lease: Lease, checkpoint: Checkpoint | None, attempts: Attempts, *, expires_at_ms: int
    ) -> None:
        """Store progress and the lease's end. Conditional on the fencing token; raises LeaseLost.

        A release is an end of 0, so that its repeat succeeds.
        """
        settled = checkpoint is not None or expires_at_ms == 0
        self._update(
            lease,
            (checkpoint_values(checkpoint) if checkpoint else {})
            | attempt_values(attempts)
            | {"lease_expires_at_ms": expires_at_ms}
            | ({"unreleased_runs": 0} if settled else {}),
        )

    def save_gap(
        self, lease: Lease, checkpoint: Checkpoint, gap: Gap, *, expires_at_ms: int
    ) -> None:
        """Store a new position and its gap's record, both or neither (G7).

        Conditional on the fencing token; raises LeaseLost. The repeat of a transaction that had
        succeeded writes the same values again.
        """
        values = (
            checkpoint_values(checkpoint)
            | attempt_values(Attempts())
            | {"lease_expires_at_ms": expires_at_ms, "unreleased_runs": 0}
        )
        record = {"stream": gap.stream, **gap_values(gap)}
        with _as_lease_lost(lease), _translated(lease.stream):
            self._client.transact_write_items(
                TransactItems=[
                    {"Update": self._update_request(lease, values)},
                    {"Put": {"TableName": self._table, "Item": _attributes(_present(record))}},
                ]
            )

    def halt(
        self, lease: Lease, checkpoint: Checkpoint | None, attempts: Attempts, *, reason: str
    ) -> None:
        """Store progress, halt the stream, release. Conditional on the fencing token."""
        self._update(
            lease,
            (checkpoint_values(checkpoint) if checkpoint else {})
            | attempt_values(attempts)
            | {"lease_expires_at_ms": 0, "unreleased_runs": 0}
            | {"status": Status.HALTED.value, "status_reason": reason},
        )

    def set_status(self, stream: str, status: Status, *, reason: str | None) -> bool:
        """Set the status as an operator does. Conditional on the item's existence.

        Clears the attempts, so that a resumed stream tries afresh. False: there is no such item.
        """
        values: Values = {"status": status.value, "status_reason": reason}
        request = _update_of(values | attempt_values(Attempts()) | {"unreleased_runs": 0})
        try:
            with _translated(stream):
                self._client.update_item(
                    TableName=self._table,
                    Key=_key(stream),
                    ConditionExpression="attribute_exists(fencing_token)",
                    **request,
                )
        except _ConditionFailed:
            return False
        return True

    def _update(self, lease: Lease, values: Values) -> None:
        with _as_lease_lost(lease), _translated(lease.stream):
            self._client.update_item(**self._update_request(lease, values))

    def _update_request(self, lease: Lease, values: Values) -> Any:
        request = _update_of(values)
        request["ExpressionAttributeValues"][":mine"] = attribute(lease.fencing_token)
        return {
            "TableName": self._table,
            "Key": _key(lease.stream),
            "ConditionExpression": IS_HOLDER,
            **request,
        }


class _ConditionFailed(Exception):
    """DynamoDB refused a condition; `item` is what it found."""

    def __init__(self, item: Mapping[str, Any]) -> None:
        self.item = item


def _key(stream: str) -> dict[str, dict[str, str]]:
    return {"stream": attribute(stream), "record": attribute("checkpoint")}


def _attributes(values: Mapping[str, str | int]) -> dict[str, dict[str, str]]:
    return {name: attribute(value) for name, value in values.items()}


def _present(values: Values) -> dict[str, str | int]:
    return {name: value for name, value in values.items() if value is not None}


def _update_of(values: Values) -> dict[str, Any]:
    """An update that sets each value, and removes the attributes whose value is None."""
    present = _present(values)
    absent = [name for name in values if name not in present]
    parts = ["SET " + ", ".join(f"#{name} = :{name}" for name in present)]
    if absent:
        parts.append("REMOVE " + ", ".join(f"#{name}" for name in absent))
    return {
        "UpdateExpression": " ".join(parts),
        "ExpressionAttributeNames": {f"#{name}": name for name in values},
        "ExpressionAttributeValues": {
            f":{name}": attribute(value) for name, value in present.items()
        },
    }


@contextmanager
def _as_lease_lost(lease: Lease) -> Iterator[None]:
    try:
        yield
    except _ConditionFailed as failed:
        raise LeaseLost(
            f"stream {lease.stream!r}: fencing token {lease.fencing_token} is no longer the lease's"
        ) from failed


@contextmanager
def _translated(stream: str) -> Iterator[None]:
    """Turn the SDK's errors into ours: a failed condition, a refusal, or unavailability."""
    try:
        yield
    except ClientError as error:
        raise _translation(stream, error) from error
    except BotoCoreError as error:
        raise StoreUnavailable(
            f"stream {stream!r}: DynamoDB did not answer ({type(error).__name__})"
        ) from error


def _translation(stream: str, error: ClientError) -> Exception:
    code = error.response.get("Error", {}).get("Code", "unknown")
    if code == "ConditionalCheckFailedException":
        found: Any = error.response.get("Item", {})
        return _ConditionFailed(found)
    if code == "TransactionCanceledException" and _has_failed_condition(error):
        return _ConditionFailed({})
    if code in REFUSALS:
        remedy = REFUSALS[code].format(operation=f"dynamodb:{error.operation_name}")
        return StoreRefused(f"stream {stream!r}: {remedy} ({code})")
    return StoreUnavailable(f"stream {stream!r}: DynamoDB failed ({code})")


def _has_failed_condition(error: ClientError) -> bool:
    reasons: Any = error.response.get("CancellationReasons", [])
    return any(reason.get("Code") == "ConditionalCheckFailed" for reason in reasons)
