"""The checkpoint item: what DynamoDB stores, to and from the model; pure.

Numbers are milliseconds where their name ends in `_ms`. A position is `resume_token` (canonical
Extended JSON) or `operation_time` ("seconds.increment"); `position_use` says which.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeAlias

from bson.errors import BSONError
from bson.timestamp import Timestamp

from tidemark.errors import StateRefused
from tidemark.model import (
    NO_ATTEMPTS,
    Acquired,
    Attempts,
    Checkpoint,
    Gap,
    Lease,
    NotAcquired,
    Observed,
    Position,
    Status,
    parse_token,
    token_json,
)

SCHEMA_VERSION = 1
_BEFORE = ("before_of", "before_position_use", "before_resume_token", "before_operation_time")
# An attribute of another type or form: what Extended JSON's own types raise is among these.
_DAMAGE = (KeyError, ValueError, TypeError, AttributeError, ArithmeticError, BSONError)
Item: TypeAlias = Mapping[str, Mapping[str, Any]]
Values: TypeAlias = dict[str, str | int | None]  # attribute → value, None where it must be absent


def position_values(position: Position) -> Values:
    """The attributes of a position; the one that it is not must be absent."""
    token, time = position.resume_token, position.operation_time
    return {
        "position_use": "operation_time" if token is None else "token",
        "resume_token": None if token is None else token_json(token),
        "operation_time": _time_text(time),
    }


def checkpoint_values(checkpoint: Checkpoint) -> Values:
    """The attributes that a checkpoint sets.

    Of an observation there is nothing to take back: without one the stored one stays.
    """
    return {
        **position_values(checkpoint.position),
        **_before_values(checkpoint),
        **_observed_values(checkpoint.observed),
        "cluster_time": _time_text(checkpoint.cluster_time),
        "change_wall_time_ms": checkpoint.change_wall_time_ms,
        "checkpointed_at_ms": checkpoint.checkpointed_at_ms,
        "behind_invalidate": int(checkpoint.behind_invalidate) or None,
        "definition": checkpoint.definition,
        "fingerprint": checkpoint.fingerprint,
        "deployment": checkpoint.deployment,
        "unopened": int(checkpoint.unopened) or None,
        "schema_version": SCHEMA_VERSION,
    }


def _before_values(checkpoint: Checkpoint) -> Values:
    """A position kept beside the stored one, with the one that it belongs to; or all absent.

    A former edition moves the position and leaves these as they are.
    """
    if checkpoint.before is None:
        return dict.fromkeys(_BEFORE)
    before = position_values(checkpoint.before)
    own = {f"before_{name}": value for name, value in before.items()}
    return own | {"before_of": str(checkpoint.position)}


def _observed_values(observed: Observed | None) -> Values:
    if observed is None:
        return {}
    return {
        "observed_operation_time": _time_text(observed.operation_time),
        "observed_at_ms": observed.at_ms,
    }


def attempt_values(attempts: Attempts) -> Values:
    """The attributes of a failing change; all absent where none fails."""
    known = attempts if attempts.count else NO_ATTEMPTS
    return {
        "attempts": known.count or None,
        "attempts_change_id": known.change_id,
        "attempts_since_ms": known.first_at_ms,
        "attempts_alone": int(known.alone) or None,
        "attempts_open": int(known.open) or None,
    }


def gap_values(gap: Gap) -> Values:
    """The attributes of a gap's record: from the last checkpoint to the new position (G7)."""
    left = gap.from_checkpoint
    return {
        "record": f"gap#{_iso(gap.recorded_at_ms)}",
        "reason": gap.reason,
        "error_code": gap.code,
        "recorded_at_ms": gap.recorded_at_ms,
        "definition": gap.definition,
        "from_position": None if left is None else str(left.position),
        "from_cluster_time": None if left is None else _time_text(left.cluster_time),
        "from_wall_time_ms": None if left is None else left.change_wall_time_ms,
        "from_checkpointed_at_ms": None if left is None else left.checkpointed_at_ms,
        **{f"to_{name}": value for name, value in position_values(gap.to_position).items()},
    }


def attribute(value: str | int) -> dict[str, str]:
    """A value as DynamoDB's typed attribute."""
    return {"S": value} if isinstance(value, str) else {"N": str(value)}


def acquired_from(old: Item, lease: Lease) -> Acquired:
    """What taking `lease` brought, from the item as it was before.

    A repeat of our own request is no killed run. Raises StateRefused.
    """
    with _understood():
        ours = _text(old, "lease_owner") == lease.owner
        return Acquired(
            lease=lease,
            checkpoint=_checkpoint_from(old),
            attempts=Attempts(
                count=_number(old, "attempts") or 0,
                change_id=_text(old, "attempts_change_id"),
                first_at_ms=_number(old, "attempts_since_ms"),
                alone=bool(_number(old, "attempts_alone")),
                open=bool(_number(old, "attempts_open")),
            ),
            unreleased_runs=max(0, (_number(old, "unreleased_runs") or 0) - ours),
        )


def not_acquired_from(item: Item) -> NotAcquired:
    """Who holds the lease, or why the stream rests. Raises StateRefused."""
    with _understood():
        require_known_schema(item)
        return NotAcquired(
            status=Status(_text(item, "status") or Status.RUNNING),
            status_reason=_text(item, "status_reason"),
            owner=_text(item, "lease_owner"),
            expires_at_ms=_number(item, "lease_expires_at_ms") or 0,
            checkpoint=_checkpoint_from(item),
        )


def require_known_schema(item: Item) -> None:
    """Refuse an item that a newer Tidemark has written."""
    version = _number(item, "schema_version") or 0
    if version > SCHEMA_VERSION:
        raise StateRefused(
            f"the checkpoint item has schema_version {version}, this code knows {SCHEMA_VERSION}: "
            "deploy the version that wrote it, or newer"
        )


@contextmanager
def _understood() -> Iterator[None]:
    """Refuse an item whose attributes are not what this module writes."""
    try:
        yield
    except _DAMAGE as damage:
        raise StateRefused(
            f"the checkpoint item is damaged ({type(damage).__name__}): restore it from the "
            "table's point-in-time recovery; nothing was read"
        ) from damage


def _checkpoint_from(item: Item) -> Checkpoint | None:
    if "position_use" not in item:
        return None
    position = _position_from(item)
    return Checkpoint(
        position=position,
        definition=item["definition"]["S"],
        fingerprint=item["fingerprint"]["S"],
        cluster_time=_time_from(_text(item, "cluster_time")),
        change_wall_time_ms=_number(item, "change_wall_time_ms"),
        checkpointed_at_ms=_number(item, "checkpointed_at_ms") or 0,
        behind_invalidate=bool(_number(item, "behind_invalidate")),
        before=_before_from(item, position),
        deployment=_text(item, "deployment"),
        unopened=bool(_number(item, "unopened")) and position.operation_time is not None,
        observed=_observed_from(item),
    )


def _position_from(item: Item, prefix: str = "") -> Position:
    if _text(item, f"{prefix}position_use") == "token":
        return Position(resume_token=parse_token(item[f"{prefix}resume_token"]["S"]))
    return Position(operation_time=_time_from(item[f"{prefix}operation_time"]["S"]))


def _before_from(item: Item, position: Position) -> Position | None:
    is_its = _text(item, "before_of") == str(position)
    return _position_from(item, "before_") if is_its else None


def _observed_from(item: Item) -> Observed | None:
    time = _time_from(_text(item, "observed_operation_time"))
    at_ms = _number(item, "observed_at_ms")
    return None if time is None or at_ms is None else Observed(time, at_ms)


def _time_text(time: Timestamp | None) -> str | None:
    return None if time is None else f"{time.time}.{time.inc}"


def _time_from(text: str | None) -> Timestamp | None:
    if text is None:
        return None
    seconds, increment = text.split(".")
    return Timestamp(int(seconds), int(increment))


def _text(item: Item, name: str) -> str | None:
    return item[name]["S"] if name in item else None


def _number(item: Item, name: str) -> int | None:
    return int(item[name]["N"]) if name in item else None


def _iso(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
