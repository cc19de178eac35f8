"""What can go wrong, grouped by what happens next.

    TidemarkError
    ├── ConfigError              refuse at cold start: nothing ran
    ├── RetryableError           position unchanged, the next run tries again
    │   ├── SourceUnavailable      a passing fault of MongoDB: outlasted inside the run
    │   │   └── SourceUnreachable    no server has ever answered: the next run tries again
    │   │       └── HostNotFound       DNS does not find its host
    │   ├── OpeningTimedOut        the stream could not be opened within the budget
    │   ├── StoreUnavailable       DynamoDB failed or did not answer in time
    │   ├── DeliveryFailed         the sink failed; the failed change comes again
    │   └── DeadLetterFailed       a dead letter could not be stored; its change comes again
    ├── FatalError               position unchanged, every run fails until an operator acts
    │   ├── SourceRefused          MongoDB understood the request and refused it
    │   │   └── TokenRefused         MongoDB cannot go on from the position's token
    │   ├── EventTooLarge          a change event over 16 MB
    │   ├── StoreRefused           DynamoDB understood the request and refused it
    │   ├── StateRefused           the checkpoint item is newer than this code, or damaged
    │   ├── SinkRefused            the sink's target does not exist or denies access
    │   ├── DefinitionChanged      the position belongs to another stream definition
    │   └── StreamHalted           a policy stopped the stream; this run, once
    ├── LeaseLost                stop, write nothing: another run reads the stream
    ├── HistoryLost              the stream's policy decides, with a gap record
    ├── StreamInvalidated        the stream goes on after the invalidate
    └── PoisonChange             set this one change aside

No message holds a connection string, a secret or a document's content (G8).
"""

from collections.abc import Iterable, Mapping
from typing import Any


class TidemarkError(Exception):
    """Anything that Tidemark itself raises."""


class ConfigError(TidemarkError):
    """The configuration is wrong; `problems` names every mistake with the path of its field.

    What the operator does: mend each named field, deploy again.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        count = f"{len(self.problems)} problem{'s' if len(self.problems) != 1 else ''}"
        super().__init__("\n".join([f"configuration: {count}", *self.problems]))


class RetryableError(TidemarkError):
    """The position is unchanged and the next run tries again.

    What the operator does: nothing, unless it keeps coming.
    """


class SourceUnavailable(RetryableError):
    """A passing fault of MongoDB: retried inside the run, which fails where it lasts as long.

    What the operator does: check the network path, the cluster's state and its access list.
    """


class SourceUnreachable(SourceUnavailable):
    """No MongoDB server has ever answered this container: a run does not wait for one.

    What the operator does: check the host, the network path and the cluster's access list.
    """


class HostNotFound(SourceUnreachable):
    """DNS does not find MongoDB's host, or does not answer: the next invocation looks again.

    What the operator does: compare the host with the cluster's; in a VPC, check its DNS.
    """


class OpeningTimedOut(RetryableError):
    """The stream could not be opened within the budget: the server had not answered yet.

    What the operator does: check the cluster's load and the network path.
    """


class StoreUnavailable(RetryableError):
    """DynamoDB failed or did not answer in time; what it last confirmed is the position.

    What the operator does: check the service's health and, in a VPC, the route to its endpoint.
    """


class DeliveryFailed(RetryableError):
    """The sink failed: everything before the failed change is checkpointed, it comes again.

    `delivered`: how many changes from the start of the batch were delivered before it failed; a
    `deliver(batch)` that raises this says so, that they need not come again.

    What the operator does: read the cause's type and place in the log, mend `deliver`.
    """

    delivered: int = 0  # of a subclass, too, whose own construction forgets ours

    def __init__(self, *args: object, delivered: int = 0) -> None:
        super().__init__(*args)
        self.delivered = delivered


class DeadLetterFailed(RetryableError):
    """A poison change could not be set aside; the position stays before it.

    What the operator does: check the dead-letter queue, the payload bucket and their permissions.
    """


class FatalError(TidemarkError):
    """The position is unchanged, and every run will fail until an operator acts."""


class SourceRefused(FatalError):
    """MongoDB understood the request and refused it: the message names the remedy."""

    def __init__(self, message: str, code: int | None = None) -> None:
        self.code = code
        super().__init__(message)


class TokenRefused(SourceRefused):
    """MongoDB cannot go on from the position's resume token, and the pipeline is not why.

    What the operator does: restore the stream's definition, or choose
    `on_definition_change = "restart"` until the stream runs: the gap is recorded.
    """


class EventTooLarge(FatalError):
    """A change event is over the server's 16 MB limit.

    What the operator does: set `split_large_events = true` (MongoDB 6.0.9, 7.0 or later) and
    `on_definition_change = "resume"` for one deployment, or narrow the event by the pipeline.
    """


class StoreRefused(FatalError):
    """DynamoDB understood the request and refused it: the message names the remedy."""


class StateRefused(FatalError):
    """The checkpoint item cannot be understood: newer than this code, or damaged.

    What the operator does: deploy the newer code, or restore the item from point-in-time recovery.
    """


class SinkRefused(FatalError):
    """The sink's target does not exist or denies access: the message names what is missing."""


class DefinitionChanged(FatalError):
    """The stored position belongs to another scope, pipeline or set of event options (G10).

    What the operator does: restore the definition, or choose `on_definition_change`.
    """


class StreamHalted(FatalError):
    """A policy halted the stream in this run; later runs stop at its status.

    What the operator does: remove the cause, then `{"action": "resume", "stream": …}`.
    """


class LeaseLost(TidemarkError):
    """Another run holds the stream's lease, or this one outlived its own: stop, write nothing."""


class HistoryLost(TidemarkError):
    """The server no longer has the position: `on_history_lost` decides, with a gap record (G7).

    What the operator does: choose the policy, and re-read the source for the gap's time.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        self.code = code
        super().__init__(message)


class StreamInvalidated(TidemarkError):
    """The collection or database was dropped or renamed; the cursor is closed by the server.

    `token`: the invalidate's own, where the closing answer brought one.
    """

    def __init__(self, message: str, token: Mapping[str, Any] | None) -> None:
        self.token = token
        super().__init__(message)


class PoisonChange(TidemarkError):
    """One change that can never be delivered: it is dead-lettered by the stream's policy."""
