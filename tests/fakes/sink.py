"""What a run does to the world outside: a sink, dead letters and telemetry that remember."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tidemark.errors import DeadLetterFailed, DeliveryFailed
from tidemark.model import Batch, change_id
from tidemark.ports import DeadLetter, Outcome


class SinkFailed(Exception):
    """The scripted failure of a delivery."""


@dataclass(slots=True)
class RecordingSink:
    """Remembers each attempt and what of it was delivered; fails as it is told.

    `attempts`: the document keys of each batch begun. `delivered`: those that came through, in
    order, with repeats. `poison`: keys at which a batch fails without being named; `named`: with.
    `failures`: that many attempts fail from now on; `outages`: by the target's doing. `on_deliver`
    sees each batch before all else: it may crash, hang, or let time pass.
    """

    poison: set[object] = field(default_factory=set)
    named: set[object] = field(default_factory=set)
    failures: int = 0
    outages: int = 0
    on_deliver: Callable[[Batch], None] = lambda _: None
    attempts: list[list[object]] = field(default_factory=list)
    delivered: list[object] = field(default_factory=list)
    delivered_ids: list[str] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    may_hang_on_a_change: bool = True

    def deliver(self, batch: Batch, *, deadline_s: float) -> Outcome:  # noqa: ARG002 - manual time
        """Record `batch`, then let what is scripted become of it."""
        keys = [key_of(change) for change in batch]
        self.attempts.append(keys)
        self.batches.append(batch)
        self.on_deliver(batch)
        outcome = self._outcome(keys)
        self.delivered += keys[: outcome.delivered]
        self.delivered_ids += [change_id(change) for change in batch[: outcome.delivered]]
        return outcome

    def _outcome(self, keys: list[object]) -> Outcome:
        if self.outages > 0:
            self.outages -= 1
            return Outcome(0, DeliveryFailed("down"))
        if self.failures > 0:
            self.failures -= 1
            return Outcome(0, SinkFailed("for a while"))
        if self.poison.intersection(keys):
            return Outcome(0, SinkFailed("poison"))
        for place, key in enumerate(keys):
            if key in self.named:
                return Outcome(place, SinkFailed("named"), named=True)
        return Outcome(len(keys))


@dataclass(slots=True)
class MemoryDeadLetters:
    """Keeps letters; `failures`: "refused" stores nothing, "answer_lost" stores and fails."""

    letters: list[DeadLetter] = field(default_factory=list)
    failures: deque[str] = field(default_factory=deque)

    def put(self, letter: DeadLetter) -> None:
        """See `ports.DeadLetters`."""
        failure = self.failures.popleft() if self.failures else None
        if failure != "refused":
            self.letters.append(letter)
        if failure is not None:
            raise DeadLetterFailed(f"{failure} by script")

    @property
    def keys(self) -> list[object]:
        """The document keys of the letters."""
        return [key_of(letter.change) for letter in self.letters]


@dataclass(slots=True)
class RecordingTelemetry:
    """Remembers each event and error with its fields."""

    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    errors: list[tuple[str, BaseException | None, dict[str, Any]]] = field(default_factory=list)

    def event(self, name: str, **fields: Any) -> None:
        """See `ports.Telemetry`."""
        self.events.append((name, fields))

    def error(self, name: str, cause: BaseException | None = None, **fields: Any) -> None:
        """See `ports.Telemetry`."""
        self.errors.append((name, cause, fields))

    @property
    def names(self) -> list[str]:
        """The names of all that was told, events before errors."""
        return [name for name, _ in self.events] + [name for name, _, _ in self.errors]


def key_of(change: Any) -> object:
    """A change's document key, or its operation where it has none."""
    key = change.get("documentKey")
    return change.get("operationType", "hidden") if key is None else key["_id"]
