"""The requests of one delivery: in parallel, each entry until the service has confirmed it.

An entry that fails is sent again by itself, with the next request, after a backoff with jitter.

No request behind the first begins unless the slowest that there can be ends in time. What comes
before the first (a bus that is asked for, a payload that is put aside) leaves it the time of an
ordinary answer (G5).
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
from tidemark.sinks.outbox import Entry, Outbox
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
        workers = min(self.sink.concurrency, self.outbox.tasks)
        if workers <= 1:
            self._work()
            return
        with ThreadPoolExecutor(workers) as pool:
            working = [pool.submit(self._work) for _ in range(workers)]
        for each in working:
            each.result()

    def _work(self) -> None:
        sent = False
        try:
            while request := self.outbox.take():
                sent |= self._step(request)
                if self._left_s() < (REQUEST_S if sent else ANSWER_S):
                    self.outbox.close()
        except BaseException:
            self.outbox.close()
            raise

    def _step(self, request: Sequence[Entry]) -> bool:
        """One request of whatever kind; whether it held messages."""
        if request[0].payload is not None:
            self._put_aside(request[0], request[0].payload)
            return False
        answers = self._answers(request)
        if answers is None:
            self.outbox.give_back(request)
            return False
        self._settle(request, answers)
        return True

    def _put_aside(self, entry: Entry, payload: Payload) -> None:
        """Let the body wait in S3, after which the entry can be sent."""
        with self._named():
            failure = self.claim_check.put(payload)
        if failure is not None:
            self._put_back([entry], [failure])
            return
        entry.payload = None
        self.outbox.give_back([entry])

    def _answers(self, request: Sequence[Entry]) -> Answers | None:
        """One answer an entry, whatever the service does; None where there is still none."""
        try:
            answers = self.target.send([entry.values for entry in request])
        except SDK_ERRORS as error:
            answers = [failure_of(error)] * len(request)
        if answers is None:
            return None
        missing = len(request) - len(answers)
        answers = [*answers, *[NO_ANSWER] * missing][: len(request)]
        with self._named():
            for failure in filter(None, answers):
                raise_if_refused(failure, self.target.permission, self.sink.target)
        return answers

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
            self._put_back(failed, list(filter(None, answers)))

    def _put_back(self, entries: Sequence[Entry], failures: Sequence[Failure]) -> None:
        """Let failed entries be taken again, after a wait: this thread sends nothing meanwhile."""
        bound = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** self.outbox.tries_of(entries))
        delay = min(random.uniform(0, bound), self._left_s() - REQUEST_S)  # noqa: S311 - no secret
        if delay > 0:
            self.clock.sleep_s(delay)
        self.outbox.put_back(entries, failures)

    def _left_s(self) -> float:
        return self.deadline_s - self.clock.monotonic_s()
