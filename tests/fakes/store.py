"""The checkpoint table in memory, for the `CheckpointStore` port."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, TypeVar

from fakes.clock import ManualClock
from tidemark.errors import LeaseLost, StateRefused, StoreUnavailable
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
from tidemark.model import (
    NO_ATTEMPTS,
    Acquired,
    Attempts,
    Checkpoint,
    Gap,
    Lease,
    NotAcquired,
    Status,
)

Item = dict[str, dict[str, Any]]
T = TypeVar("T")


class StoreFault(StrEnum):
    """What can happen to one request."""

    REFUSED = "refused"  # not applied, and the caller learns it: StoreUnavailable
    ANSWER_LOST = "answer_lost"  # applied, and the caller hears StoreUnavailable
    REPEATED = "repeated"  # applied, its answer lost, and repeated by the SDK
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the next request, or of the next one named `on`; `seconds` for a slow one."""

    kind: StoreFault
    on: str | None = None
    seconds: float = 0.0


def slow(seconds: float, on: str | None = None) -> Fault:
    """A request that takes `seconds`; injected into a store made with a clock."""
    return Fault(StoreFault.SLOW, on, seconds)


class MemoryStore:
    """Checkpoint items with the conditions of `dynamodb.py`, and faults on request.

    `items` and `gaps` are by stream. `requests` names what was asked, in order, repeats by the SDK
    not counted.
    """

    def __init__(self, clock: ManualClock | None = None) -> None:
        self.items: dict[str, Item] = {}
        self.gaps: list[Gap] = []
        self.requests: list[str] = []
        self._clock = clock
        self._faults: list[Fault] = []

    def inject(self, fault: StoreFault | Fault, on: str | None = None) -> None:
        """Let `fault` happen to a coming request: the next, or the next named `on`."""
        self._faults.append(fault if isinstance(fault, Fault) else Fault(fault, on))

    def clear_faults(self) -> None:
        """Forget what was injected and did not happen yet."""
        self._faults.clear()

    def acquire(
        self, stream: str, owner: str, *, now_ms: int, expires_at_ms: int
    ) -> Acquired | NotAcquired:
        """See `ports.CheckpointStore`."""

        def apply() -> Acquired | NotAcquired | StateRefused:
            return self._acquire(stream, owner, now_ms, expires_at_ms)

        answer = self._request("acquire", apply)
        if isinstance(answer, StateRefused):
            raise answer
        return answer

    def renew(self, lease: Lease, *, expires_at_ms: int) -> None:
        """See `ports.CheckpointStore`."""
        self._write("renew", lease, {"lease_expires_at_ms": expires_at_ms})

    def save(
        self, lease: Lease, checkpoint: Checkpoint | None, attempts: Attempts, *, expires_at_ms: int
    ) -> None:
        """See `ports.CheckpointStore`."""
        settled = checkpoint is not None or expires_at_ms == 0
        values = (
            (checkpoint_values(checkpoint) if checkpoint else {})
            | attempt_values(attempts)
            | {"lease_expires_at_ms": expires_at_ms}
            | ({"unreleased_runs": 0} if settled else {})
        )
        self._write("save" if expires_at_ms else "release", lease, values)

    def save_gap(
        self, lease: Lease, checkpoint: Checkpoint, gap: Gap, *, expires_at_ms: int
    ) -> None:
        """See `ports.CheckpointStore`."""
        values = (
            checkpoint_values(checkpoint)
            | attempt_values(NO_ATTEMPTS)
            | {"lease_expires_at_ms": expires_at_ms, "unreleased_runs": 0}
        )
        self._write("save_gap", lease, values, gap)

    def halt(
        self, lease: Lease, checkpoint: Checkpoint | None, attempts: Attempts, *, reason: str
    ) -> None:
        """See `ports.CheckpointStore`."""
        values = (
            (checkpoint_values(checkpoint) if checkpoint else {})
            | attempt_values(attempts)
            | {"lease_expires_at_ms": 0, "unreleased_runs": 0}
            | {"status": Status.HALTED.value, "status_reason": reason}
        )
        self._write("halt", lease, values)

    def set_status(self, stream: str, status: Status, *, reason: str | None) -> bool:
        """See `ports.CheckpointStore`."""

        def apply() -> bool:
            if stream not in self.items:
                return False
            values: Values = {"status": status.value, "status_reason": reason}
            self._set(stream, values | attempt_values(NO_ATTEMPTS) | {"unreleased_runs": 0})
            return True

        return self._request("set_status", apply)

    def stored(self, stream: str) -> Acquired:
        """What the next holder would be told; for a test to look at."""
        item = self.items.get(stream, {})
        lease = Lease(stream, "", self.fencing_token(stream), 0)
        known = acquired_from(item, lease)
        return replace(known, lease=lease)

    def fencing_token(self, stream: str) -> int:
        """The fencing token of the lease that was taken last; 0 before the first."""
        return self._number(stream, "fencing_token")

    def expires_at_ms(self, stream: str) -> int:
        """The stored end of the lease."""
        return self._number(stream, "lease_expires_at_ms")

    def _acquire(
        self, stream: str, owner: str, now_ms: int, expires_at_ms: int
    ) -> Acquired | NotAcquired | StateRefused:
        old = dict(self.items.get(stream, {}))
        if not self._may_acquire(old, owner, now_ms):
            return _judged(not_acquired_from, old)
        lease = Lease(stream, owner, self.fencing_token(stream) + 1, expires_at_ms)
        taken: Values = {
            "lease_owner": owner,
            "lease_expires_at_ms": expires_at_ms,
            "fencing_token": lease.fencing_token,
            "unreleased_runs": self._number(stream, "unreleased_runs") + 1,
        }
        self._set(stream, taken)
        answer = _judged(acquired_from, old, lease)
        if isinstance(answer, StateRefused):
            self._set(stream, {"lease_expires_at_ms": 0, "unreleased_runs": 0})
        return answer

    def _may_acquire(self, item: Item, owner: str, now_ms: int) -> bool:
        def held(name: str, absent: str) -> str:
            return next(iter(item[name].values())) if name in item else absent

        free = int(held("lease_expires_at_ms", "0")) <= now_ms
        running = held("status", Status.RUNNING) == Status.RUNNING
        known = int(held("schema_version", "0")) <= SCHEMA_VERSION
        return (free or held("lease_owner", "") == owner) and running and known

    def _write(self, name: str, lease: Lease, values: Values, gap: Gap | None = None) -> None:
        def apply() -> LeaseLost | None:
            if not self._is_holder(lease):
                return LeaseLost(f"fencing token {lease.fencing_token} is no longer the lease's")
            self._set(lease.stream, values)
            self._record(gap)
            return None

        lost = self._request(name, apply)
        if lost is not None:
            raise lost

    def _is_holder(self, lease: Lease) -> bool:
        return self.fencing_token(lease.stream) == lease.fencing_token

    def _record(self, gap: Gap | None) -> None:
        if gap is None:
            return
        name = gap_values(gap)["record"]
        self.gaps = [held for held in self.gaps if gap_values(held)["record"] != name] + [gap]

    def _request(self, name: str, apply: Callable[[], T]) -> T:
        """One request with the fault that is due for it."""
        self.requests.append(name)
        fault = self._fault_of(name)
        if fault is None:
            return apply()
        if fault.kind is StoreFault.SLOW and self._clock is not None:
            self._clock.sleep_s(fault.seconds)
        if fault.kind is StoreFault.REFUSED:
            raise StoreUnavailable("refused by script")
        answer = apply()
        if fault.kind is StoreFault.ANSWER_LOST:
            raise StoreUnavailable("the answer was lost by script")
        return apply() if fault.kind is StoreFault.REPEATED else answer

    def _fault_of(self, name: str) -> Fault | None:
        for fault in self._faults:
            if fault.on in (None, name):
                self._faults.remove(fault)
                return fault
        return None

    def _set(self, stream: str, values: Values) -> None:
        """Set each attribute, remove those whose value is None."""
        item = self.items.setdefault(stream, {})
        for name, value in values.items():
            item.pop(name, None)
            if value is not None:
                item[name] = attribute(value)

    def _number(self, stream: str, name: str) -> int:
        item = self.items.get(stream, {})
        return int(item[name]["N"]) if name in item else 0


def _judged(read: Callable[..., T], *item: object) -> T | StateRefused:
    try:
        return read(*item)
    except StateRefused as refused:
        return refused
