"""The requests of one delivery: in parallel, each entry until the service has confirmed it.

An entry that fails is sent again by itself, with the next request, after a backoff with jitter.

What begins at once begins in any case. Behind it no request begins unless the slowest that there
can be ends in time, and no payload is put aside unless its message could follow; but the first
message needs no more than the time of an ordinary answer (G5).
"""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from tidemark.claimcheck import ClaimCheck, Payload
from tidemark.errors import SinkRefused
from tidemark.ports import Clock
from tidemark.settings import SinkSettings
from tidemark.sinks.outbox import Entry, Outbox, Taken
from tidemark.sinks.refusals import SDK_ERRORS, failure_of, raise_if_refused
from tidemark.sinks.target import ANSWER_S, NO_ANSWER, REQUEST_S, Answers, Failure, Target

BACKOFF_BASE_S = 0.1
BACKOFF_CAP_S = 2.0


@dataclass(frozen=True, slots=True)
class Sending:
    """Empties `outbox` into `target`; `deadline_s` is the monotonic time by which to have ended."""

    sink: SinkSettings
    target: Target
    claim_check: ClaimCheck
    clock: Clock
    outbox: Outbox
    deadline_s: float

    def run(self) -> None:
        """Send with no more threads than can be busy; return when all end. Raises SinkRefused."""
        if self.target.asks_first and (taken := self.outbox.take()).entries:
            self._act_on(taken)
        workers = min(self.sink.concurrency, self.outbox.tasks)
        if workers <= 1:
            self._work()
            return
        with ThreadPoolExecutor(workers) as pool:
            working = [pool.submit(self._work) for _ in range(workers)]
        for each in working:
            each.result()

    def _work(self) -> None:
        while (taken := self.outbox.take()).entries:
            self._act_on(taken)

    def _act_on(self, taken: Taken) -> None:
        try:
            if not self._may_begin(taken):
                self._give_up(taken)
            elif taken.payload is not None:
                self._put_aside(taken, taken.payload)
            else:
                self._send(taken)
        except BaseException:
            self.outbox.close()
            raise

    def _may_begin(self, taken: Taken) -> bool:
        if taken.is_early:
            return True
        if taken.payload is not None:
            return self._left_s() >= REQUEST_S + ANSWER_S
        return self._left_s() >= (ANSWER_S if taken.is_first else REQUEST_S)

    def _give_up(self, taken: Taken) -> None:
        """Too late: for payloads, or for everything."""
        self.outbox.give_back(taken)
        if taken.payload is not None:
            self.outbox.hurry()
        else:
            self.outbox.close()

    def _send(self, taken: Taken) -> None:
        answers = self._answers(taken.entries)
        if answers is None:
            self.outbox.give_back(taken)
        else:
            self._settle(taken.entries, answers)

    def _put_aside(self, taken: Taken, payload: Payload) -> None:
        """Let the body wait in S3, after which its entry can be sent."""
        with self._named():
            failure = self.claim_check.put(payload)
        if failure is not None:
            self._put_back(taken.entries, [failure])
            return
        taken.entries[0].payload = None
        self.outbox.give_back(taken)

    def _answers(self, request: Sequence[Entry]) -> Answers | None:
        """One answer an entry, whatever the service does; None where there is still none."""
        try:
            answers = self.target.send([entry.values for entry in request])
        except SDK_ERRORS as error:
            answers = [failure_of(error)] * len(request)
        if answers is None:
            return None
        missing = len(request) - len(answers)
        return [*answers, *[NO_ANSWER] * missing][: len(request)]

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Let a refusal say whose it is."""
        try:
            yield
        except SinkRefused as refused:
            raise SinkRefused(f"sink {self.sink.name!r}: {refused}") from None

    def _settle(self, request: Sequence[Entry], answers: Answers) -> None:
        if not any(answers):
            self.outbox.confirm(request)
        elif len(request) > 1 and all(answer and answer.rejected for answer in answers):
            self.outbox.isolate(request)
        else:
            answered = list(zip(request, answers, strict=True))
            self.outbox.confirm([entry for entry, failure in answered if failure is None])
            failed = [entry for entry, failure in answered if failure is not None]
            self._settle_failed(failed, list(filter(None, answers)))

    def _settle_failed(self, entries: Sequence[Entry], failures: Sequence[Failure]) -> None:
        with self._named():
            for failure in failures:
                raise_if_refused(failure, self.target.permission, self.sink.target)
        self._put_back(entries, failures)

    def _put_back(self, entries: Sequence[Entry], failures: Sequence[Failure]) -> None:
        """Let failed entries be taken again, after a wait: this thread sends nothing meanwhile."""
        bound = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** self.outbox.tries_of(entries))
        delay = min(random.uniform(0, bound), self._left_s() - REQUEST_S)  # noqa: S311 - no secret
        if delay > 0:
            self.clock.sleep_s(delay)
        self.outbox.put_back(entries, failures)

    def _left_s(self) -> float:
        return self.deadline_s - self.clock.monotonic_s()
