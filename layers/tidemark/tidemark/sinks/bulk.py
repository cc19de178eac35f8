"""A batch of changes as entries of a service's requests, and what comes of them.

What comes of the batch is what the error tree says:

    delivered  the entries confirmed from the start without a gap
    error      PoisonChange: cannot be written, is rejected or too large; OversizeHalted: the sink
               says halt; DeliveryFailed: the target fails; None: the deadline came first

Some behind a failed entry may have been delivered already. The same run does not send them again
(`confirmed.py`); a later one does, with the same id.
"""

import os
from collections.abc import Callable, Container
from dataclasses import replace
from typing import NoReturn

from tidemark.claimcheck import ClaimCheck, payload_of
from tidemark.errors import DeliveryFailed, FatalError, PoisonChange, SinkRefused
from tidemark.model import Batch
from tidemark.ports import Clock, Outcome
from tidemark.settings import SinkSettings
from tidemark.sinks.confirmed import Confirmed
from tidemark.sinks.message import Composer, Message, traceparent_of
from tidemark.sinks.outbox import Entry, Outbox
from tidemark.sinks.sending import Sending
from tidemark.sinks.target import Limits, Target


class EntryRejected(PoisonChange):
    """The service rejects this change as it is."""


class Oversized(PoisonChange):
    """The change is over the target's limit and the sink sets such changes aside."""


class OversizeHalted(FatalError):
    """The change is over the target's limit, and the sink halts there.

    What the operator does: raise the sink's limit, or choose another `oversize` or `body`.
    """


class BulkSink:
    """Delivers to one target; `target` is made at the first delivery."""

    def __init__(
        self,
        settings: SinkSettings,
        target: Callable[[], Target],
        claim_check: ClaimCheck,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._target = target
        self._claim_check = claim_check
        self._clock = clock
        self._confirmed = Confirmed()

    @property
    def may_hang_on_a_change(self) -> bool:
        """A request that is not answered is its target's doing."""
        return False

    def deliver(self, batch: Batch, *, deadline_s: float) -> Outcome:
        """Send the batch, at least one request of it. Raises SinkRefused, unless some arrived."""
        target = self._target()
        limits = target.limits.overridden(self._settings)
        confirmed = self._confirmed.places(batch)
        entries, count, stopped = self._entries(batch, confirmed, target, limits)
        outbox = Outbox(count, entries, limits, keeps_order=target.keeps_order)
        sending = Sending(
            self._settings, target, self._claim_check, self._clock, outbox, deadline_s
        )
        try:
            sending.run()
        except SinkRefused:
            if not outbox.delivered:
                raise  # else the next delivery of the run does, behind what was delivered
        finally:
            self._confirmed.remember(batch, outbox.delivered, outbox.ahead)
        if outbox.delivered == count:
            return Outcome(count, stopped, named=stopped is not None)
        return self._outcome(outbox)

    def _entries(
        self, batch: Batch, confirmed: Container[int], target: Target, limits: Limits
    ) -> tuple[list[Entry], int, Exception | None]:
        """What is to be sent of the batch up to the first change that cannot be, where, and why."""
        traceparent = traceparent_of(os.environ.get("_X_AMZN_TRACE_ID"))
        composer = Composer(batch.stream, self._settings, target.keeps_order, traceparent)
        entries: list[Entry] = []
        for place, change in enumerate(batch):
            if place in confirmed:
                continue
            try:
                message = composer.message(change, place)
                entries.append(self._entry(message, batch.stream, target, limits))
            except (PoisonChange, OversizeHalted) as stopped:
                return entries, place, stopped
        return entries, len(batch), None

    def _entry(self, message: Message, stream: str, target: Target, limits: Limits) -> Entry:
        """A message as an entry; of one over the limit, a claim to its body."""
        values, size = target.entry(message)
        if size <= limits.message_bytes:
            return Entry(message.place, message.group, size, values)
        if self._settings.oversize != "claim_check":
            self._refuse_oversized(size)
        payload = payload_of(stream, message.change_id, message.body)
        pointer = replace(message, body=self._claim_check.pointer_to(payload))
        values, size = target.entry(pointer)
        return Entry(message.place, message.group, size, values, payload)

    def _refuse_oversized(self, size: int) -> NoReturn:
        told = f"sink {self._settings.name!r}: a message of {size} bytes, over its limit"
        if self._settings.oversize == "halt":
            raise OversizeHalted(told)
        raise Oversized(told)

    def _outcome(self, outbox: Outbox) -> Outcome:
        delivered = outbox.delivered
        failure = outbox.failure_of(delivered)
        if failure is None:
            return Outcome(delivered)
        told = f"sink {self._settings.name!r}: {self._settings.type} answered {failure.code}"
        if failure.rejected:
            size = outbox.size_bytes_of(delivered)
            return Outcome(delivered, EntryRejected(f"{told} to its {size} bytes"), named=True)
        return Outcome(delivered, DeliveryFailed(told))
