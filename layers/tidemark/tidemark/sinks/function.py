"""The user's own `deliver(batch)` as a sink.

Returning nothing means delivered. Raising fails the whole batch, whatever is raised, but for a
DeliveryFailed that says how many changes were delivered before it. Returning
`{"batchItemFailures": [{"itemIdentifier": change_id}, …]}` fails from the first of these on, as
with AWS's own stream sources. Anything else fails the batch, with an error that says what is
allowed.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidemark.errors import DeliveryFailed, TidemarkError
from tidemark.model import Batch, Token, change_id
from tidemark.ports import Outcome

ALLOWED = (
    'deliver may return nothing, or {"batchItemFailures": [{"itemIdentifier": change_id}, …]} with '
    "ids from batch.change_id(change)"
)


class ChangeFailed(TidemarkError):
    """`deliver` named this change in `batchItemFailures`."""


class BadAnswer(TidemarkError):
    """`deliver` returned something that is no answer."""


class DeliverStopped(TidemarkError):
    """`deliver` raised what would end its thread or the process: an exit, a cancelled task.

    Catch it in `deliver`, or raise an Exception in its place.
    """


class FunctionSink:
    """Delivers to a Python function, in the calling thread.

    While what it calls is down, a user's `deliver` may raise `DeliveryFailed("…", delivered=n)`:
    the first n changes are delivered, the rest comes again, and no change is blamed.
    """

    def __init__(self, deliver: Callable[[Batch], object]) -> None:
        self._deliver = deliver

    @property
    def may_hang_on_a_change(self) -> bool:
        """Whether a delivery that hangs may be a change's own doing: the user's code runs."""
        return True

    def deliver(self, batch: Batch, *, deadline_s: float) -> Outcome:  # noqa: ARG002 - cannot be cut short
        """Call the function with `batch`; its failure is the outcome."""
        try:
            tokens = _tokens(batch)  # before it is called: it may take the changes apart
            return judge(tokens, self._deliver(batch))
        except DeliveryFailed as error:
            return _outage(len(batch), error)
        except Exception as error:
            return Outcome(0, error)
        except BaseException as stop:
            return Outcome(0, _stopped(stop))


def judge(tokens: Sequence[Token], answer: object) -> Outcome:
    """What an answer of `deliver` says of the changes with these tokens. Raises BadAnswer."""
    if answer is None:
        return Outcome(len(tokens))
    failed = _failed_ids(answer)
    if not failed:
        return Outcome(len(tokens))
    places = {change_id({"_id": token}): place for place, token in enumerate(tokens)}
    unknown = failed - places.keys()
    if unknown:
        raise BadAnswer(
            f"{len(unknown)} of the ids that deliver named are not in its batch: {ALLOWED}"
        )
    first = min(places[name] for name in failed)
    return Outcome(
        first, ChangeFailed("deliver named this change in batchItemFailures"), named=True
    )


def _tokens(batch: Batch) -> list[Token]:
    """Each change's token, without the iteration of `batch`, which is for `deliver` to do."""
    return [batch[place]["_id"] for place in range(len(batch))]


def _outage(count: int, error: DeliveryFailed) -> Outcome:
    """What `error` says of a batch of `count` changes.

    A number that cannot be true says nothing: none counts as delivered, for to believe it could
    lose changes (G1), and none is blamed, for it is the target that failed.
    """
    delivered: object = error.delivered
    if type(delivered) is int and 0 <= delivered <= count:
        return Outcome(delivered, error)
    absurd = DeliveryFailed(
        f"deliver raised {type(error).__qualname__}, and its `delivered` is no number of changes "
        f"from 0 to {count}: none of them counts as delivered"
    )
    absurd.__cause__ = error
    return Outcome(0, absurd)


def _failed_ids(answer: object) -> set[str]:
    if not isinstance(answer, Mapping) or set(answer) != {"batchItemFailures"}:
        raise BadAnswer(f"deliver returned {_shape(answer)}: {ALLOWED}")
    items = answer["batchItemFailures"]
    if not isinstance(items, list):
        raise BadAnswer(f"batchItemFailures is {_shape(items)}, not a list: {ALLOWED}")
    return {_identifier(item) for item in items}


def _identifier(item: Any) -> str:
    name = item.get("itemIdentifier") if isinstance(item, Mapping) else None
    if not isinstance(name, str):
        raise BadAnswer(f"an entry of batchItemFailures has no itemIdentifier: {ALLOWED}")
    return name


def _shape(answer: object) -> str:
    """The type of an answer; its content may be private (G8)."""
    return f"an object of type {type(answer).__name__}"


def _stopped(stop: BaseException) -> DeliverStopped:
    """`stop` as a failure; its message may be private (G8), and is its cause's alone."""
    stopped = DeliverStopped(f"deliver raised {type(stop).__name__}, which is no Exception")
    stopped.__cause__ = stop
    return stopped
