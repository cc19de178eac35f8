"""A batch goes out in full requests, each entry until the service has confirmed it.

An entry that fails is sent again by itself, with the next request, after a backoff with full
jitter; requests run in parallel. What comes of the batch is what the error tree says:

    delivered  the entries confirmed from the start without a gap
    error      PoisonChange: cannot be written, is rejected or too large; OversizeHalted: the sink
               says halt; DeliveryFailed: the target fails; None: the deadline came first

Some behind a failed entry may have been delivered already. They come again, with the same id.
"""

import os
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NoReturn

from tidemark.claimcheck import ClaimCheck, payload_of
from tidemark.errors import DeliveryFailed, FatalError, PoisonChange, SinkRefused
from tidemark.model import Batch
from tidemark.ports import Clock, Outcome
from tidemark.settings import SinkSettings
from tidemark.sinks.message import Composer, Message, traceparent_of
from tidemark.sinks.outbox import Entry, Outbox
from tidemark.sinks.refusals import SDK_ERRORS, failure_of, raise_if_refused
from tidemark.sinks.target import NO_ANSWER, Answers, Failure, Limits, Target

BACKOFF_BASE_S = 0.1
BACKOFF_CAP_S = 2.0
SETTLE_S = 0.5  # before the deadline: for the answer of the last request


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

    def deliver(self, batch: Batch, *, deadline_s: float) -> Outcome:
        """Send the batch, at least one request of it. Raises SinkRefused."""
        target = self._target()
        limits = target.limits.overridden(self._settings)
        entries, stopped = self._entries(batch, target, limits)
        outbox = Outbox(entries, limits, keeps_order=target.keeps_order)
        self._drain(outbox, target, len(entries), deadline_s - SETTLE_S)
        if outbox.delivered == len(entries):
            return Outcome(len(entries), stopped, named=stopped is not None)
        return self._outcome(outbox)

    def _entries(
        self, batch: Batch, target: Target, limits: Limits
    ) -> tuple[list[Entry], Exception | None]:
        """The batch's entries up to the first change that cannot be sent, and why it cannot."""
        traceparent = traceparent_of(os.environ.get("_X_AMZN_TRACE_ID"))
        composer = Composer(batch.stream, self._settings, target.keeps_order, traceparent)
        entries: list[Entry] = []
        try:
            for place, change in enumerate(batch):
                message = composer.message(change, place)
                entries.append(self._entry(message, batch.stream, target, limits))
        except (PoisonChange, OversizeHalted) as stopped:
            return entries, stopped
        return entries, None

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

    def _drain(self, outbox: Outbox, target: Target, count: int, stop_s: float) -> None:
        """Empty the outbox with as many threads as there can be requests; return when all end."""
        workers = min(self._settings.concurrency, -(-count // target.limits.entries))
        if workers <= 1:
            self._work(outbox, target, stop_s)
            return
        with ThreadPoolExecutor(workers) as pool:
            working = [pool.submit(self._work, outbox, target, stop_s) for _ in range(workers)]
        for each in working:
            each.result()

    def _work(self, outbox: Outbox, target: Target, stop_s: float) -> None:
        try:
            while request := outbox.take():
                self._send(request, outbox, target, stop_s)
                if self._clock.monotonic_s() >= stop_s:
                    outbox.close()
        except BaseException:
            outbox.close()
            raise

    def _send(
        self, request: Sequence[Entry], outbox: Outbox, target: Target, stop_s: float
    ) -> None:
        answers = self._answers(request, target)
        if len(request) > 1 and all(answer and answer.rejected for answer in answers):
            outbox.isolate(request)
            return
        failed = [(entry, answer) for entry, answer in zip(request, answers, strict=True) if answer]
        outbox.confirm(
            [entry for entry, answer in zip(request, answers, strict=True) if not answer]
        )
        if failed:
            entries = [entry for entry, _ in failed]
            self._back_off(outbox.tries_of(entries), stop_s)
            outbox.put_back(entries, [answer for _, answer in failed])

    def _answers(self, request: Sequence[Entry], target: Target) -> Answers:
        """One answer an entry, whatever the service does."""
        try:
            for entry in request:
                if entry.payload is not None:
                    self._claim_check.put(entry.payload)
            answers = target.send([entry.values for entry in request])
        except SDK_ERRORS as error:
            answers = [failure_of(error)] * len(request)
        missing = len(request) - len(answers)
        answers = [*answers, *[NO_ANSWER] * missing][: len(request)]
        for answer in answers:
            self._raise_if_refused(answer, target)
        return answers

    def _raise_if_refused(self, answer: Failure | None, target: Target) -> None:
        if answer is None:
            return
        try:
            raise_if_refused(answer.code, target.permission, self._settings.target)
        except SinkRefused as refused:
            raise SinkRefused(f"sink {self._settings.name!r}: {refused}") from None

    def _back_off(self, tries: int, stop_s: float) -> None:
        bound = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**tries)
        left_s = stop_s - self._clock.monotonic_s()
        delay = random.uniform(0, bound)  # noqa: S311 - no secret
        if left_s > 0:
            self._clock.sleep_s(min(delay, left_s))

    def _outcome(self, outbox: Outbox) -> Outcome:
        delivered = outbox.delivered
        failure = outbox.failure_of(delivered)
        if failure is None:
            return Outcome(delivered)
        told = f"sink {self._settings.name!r}: {self._settings.type} answered {failure.code}"
        if failure.rejected:
            return Outcome(delivered, EntryRejected(told), named=True)
        return Outcome(delivered, DeliveryFailed(told))
