"""The real engine as a function of what it has heard.

A run is deterministic, given the answers to its calls and the time that passed between them. So its
state *is* that history: it is executed again from its beginning, each call answered from the
history, until it makes a call to which there is no answer yet. Each history is executed once.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from fakes import RecordingTelemetry
from simulation.scope.cases import (
    CALL_S,
    EPOCH_MS,
    LAST_CONTAINER,
    LONG_S,
    SKEW_S,
    SKEWS_S,
    STREAM,
    in_jumps,
)
from simulation.scope.parts import frozen
from tidemark.budget import Budget
from tidemark.errors import TidemarkError
from tidemark.lease import KEEPER_RENEWAL_SHARE
from tidemark.ports import Ports
from tidemark.run import Run

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from bson.timestamp import Timestamp

    from simulation.scope.cases import Case
    from simulation.scope.facts import Facts
    from tidemark.model import StreamSummary, Token


class Unanswered(BaseException):
    """The run has come to where its history ends. No `except Exception` may stop it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returned or raised, after the container waited for `waited_s`.

    Of an opening or a read also `server_time`, the server's at this answer, and `token`, that of
    the opening. `empty_at`: up to where the read has proved that there is nothing.
    """

    value: Any = None
    error: TidemarkError | None = None
    waited_s: float = 0.0
    server_time: Timestamp | None = None
    token: Token | None = None
    empty_at: int | None = None


@dataclass(frozen=True, slots=True)
class Freeze:
    """The container stood still for `seconds`: before its call was made, or behind its effect."""

    seconds: float
    monotonic_stops: bool
    is_behind: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """The keeper renewed the lease while the run's own call was not made yet."""

    answer: Answer


Event: TypeAlias = Answer | Freeze | Renewal


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a port that waits for its answer. Calls of equal effect have equal numbers."""

    port: str
    name: str
    args: tuple[Any, ...]
    named: dict[str, Any]
    number: int = 0

    @property
    def key(self) -> Hashable:
        """Equal for calls that have the same effect: a time counts by its jump, a timeout not."""
        named = [(name, _coarse(name, value)) for name, value in self.named.items()]
        return (self.port, self.name, frozen(self.args), frozenset(named))


@dataclass(slots=True)
class Heard:
    """The server's time as the run first opened a stream, and at its last answer.

    `empty_at`: up to where the last read has proved that there is nothing.
    """

    began_end: Timestamp | None = None
    server_time: Timestamp | None = None
    empty_at: int | None = None

    def note(self, name: str, answer: Answer) -> None:
        """The server has answered the call `name`."""
        if answer.error is None and name in ("open", "read"):
            self.server_time, self.empty_at = answer.server_time, answer.empty_at
            self.began_end = self.began_end or answer.server_time


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """A run up to here: `event` came last, behind `parent`; None as it begins.

    `call` waits for its answer; None where the run has come to its end, as `summary` says.
    `renewal`: the call that the keeper makes, where it finds the lease's renewal due. `token`: the
    fencing token of its lease, 0 without one; `is_ours`: whether it still has it by its own clocks.
    `heard`: what the server has told it.
    """

    number: int
    parent: History | None
    event: Event | None
    call: Call | None
    renewal: Call | None
    token: int
    is_ours: bool
    heard: Heard
    was_frozen: bool
    summary: StreamSummary | None
    telemetry: RecordingTelemetry | None

    @property
    def events(self) -> list[Event]:
        """What the run has lived through, in order."""
        events: list[Event] = []
        at: History | None = self
        while at is not None and at.event is not None:
            events.append(at.event)
            at = at.parent
        return events[::-1]


class Histories:
    """Every history that was met; equal ones are the same object."""

    def __init__(self, case: Case, facts: Facts) -> None:
        self._case = case
        self._facts = facts
        self._begun: dict[tuple[int, float], History] = {}
        self._behind: dict[tuple[int, int], History] = {}
        self._origins: dict[int, tuple[int, float]] = {}
        self._numbers: dict[Hashable, int] = {}
        self._event_numbers: dict[int, tuple[int, Event]] = {}

    def begun(self, container: int, began_s: float) -> History:
        """A run that waits at its first call."""
        origin = (container, began_s)
        if origin not in self._begun:
            self._begun[origin] = self._executed(origin, None, None)
        return self._begun[origin]

    def after(self, history: History, event: Event) -> History:
        """The run goes on from `history` to its next call."""
        key = (history.number, self.number(event))
        known = self._behind.get(key)
        if known is None:
            origin = self._origins[history.number]
            known = self._behind[key] = self._executed(origin, history, event)
        return known

    def number(self, event: Event) -> int:
        """Equal events have equal numbers."""
        known = self._event_numbers.get(id(event))
        if known is None:
            number = self._number_of(("event", frozen(event)))
            known = self._event_numbers[id(event)] = (number, event)  # kept: its id stays its own
        return known[0]

    def __len__(self) -> int:
        return len(self._origins)

    def _executed(
        self, origin: tuple[int, float], parent: History | None, event: Event | None
    ) -> History:
        before = parent.events if parent else []
        events = [*before, event] if event else before
        rerun = Rerun(self._case, self._facts, origin, events)
        rerun.execute()
        call, held = rerun.call, rerun.run.held
        history = History(
            number=len(self._origins),
            parent=parent,
            event=event,
            call=self._numbered(call),
            renewal=self._numbered(rerun.renewal),
            token=held.lease.fencing_token if held else 0,
            is_ours=held is not None and held.is_ours(),
            heard=rerun.heard,
            was_frozen=isinstance(event, Freeze) or (parent is not None and parent.was_frozen),
            summary=None if call else rerun.run.summary,
            telemetry=None if call else rerun.telemetry,
        )
        self._origins[history.number] = origin
        del rerun.run  # which refers back to it: nothing waits for the collector of cycles
        return history

    def _numbered(self, call: Call | None) -> Call | None:
        return call and replace(call, number=self._number_of(call.key))

    def _number_of(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))


class Rerun:
    """One execution of the engine; the clock and every port of its run."""

    may_hang_on_a_change = True

    def __init__(
        self, case: Case, facts: Facts, origin: tuple[int, float], events: Sequence[Event]
    ) -> None:
        container, began_s = origin
        self.heard = Heard()
        self.call: Call | None = None
        self.renewal: Call | None = None
        self.telemetry = RecordingTelemetry()
        self._facts = facts
        self._name = f"container {container}"
        self._wall_s = self._monotonic_s = began_s
        self._waited_s = 0.0
        self._events = iter(events)
        self._next = next(self._events, None)
        self._is_renewing = False
        self._keeper_answer: Answer | None = None
        settings = case.settings
        remaining_s = LONG_S if container == LAST_CONTAINER else case.remaining_s
        budget = Budget.of_invocation(
            self, remaining_ms=int(remaining_s * 1000), reserve_s=settings.reserve_s
        )
        self.run = Run(settings.streams[0], settings, self._ports(), budget)

    def execute(self) -> None:
        """Run until the history or the run ends."""
        try:
            self.run.execute()
        except Unanswered:
            return
        if self._next is not None:
            raise AssertionError("the run has ended before its history: it is not deterministic")

    def ask(self, port: str, name: str, *args: Any, **named: Any) -> Any:
        """What the history answers to a call of a port; raises Unanswered at its end."""
        if self._is_renewing:
            return self._asked_by_keeper(port, name, args, named)
        if self.call is not None:
            raise Unanswered
        self._pass_time(is_behind=False)
        answer = self._take()
        if name == "acquire":  # an owner's name is drawn at random; here it is the container's
            args = (args[0], self._name)
        if not isinstance(answer, Answer):
            self.call, self.renewal = self._stopped_at(Call(port, name, args, named))
            raise Unanswered
        self.sleep_s(CALL_S + answer.waited_s)
        self._pass_time(is_behind=True)
        self.heard.note(name, answer)
        if name == "open" and answer.error is None:
            return AskedReader(self, answer)
        return _given(answer)

    def monotonic_s(self) -> float:
        """The container's clock."""
        return self._monotonic_s

    def time_ms(self) -> int:
        """The container's clock, ahead of the true time by what the run has waited."""
        return EPOCH_MS + int(self._wall_s * 1000)

    def sleep_s(self, seconds: float) -> None:
        """Let time pass in this container."""
        self._wall_s += seconds
        self._monotonic_s += seconds
        self._waited_s += seconds
        if self._waited_s > SKEW_S - max(SKEWS_S):
            raise AssertionError(f"{STREAM} waited for longer than two clocks may be apart")

    def _ports(self) -> Ports:
        source, store = AskedSource(self, self._facts), AskedPort(self, "store")
        sink, letters = AskedPort(self, "sink"), AskedPort(self, "letters")
        return Ports(source, store, sink, letters, self, self.telemetry)

    def _stopped_at(self, call: Call) -> tuple[Call, Call | None]:
        """The call that has no answer yet, and the one that the keeper would make meanwhile."""
        held = self.run.held
        if held is not None and not held.is_over and held.renewal_due(KEEPER_RENEWAL_SHARE):
            with suppress(Unanswered):
                self._renew(None)
        return call, self.call

    def _take(self) -> Event | None:
        taken, self._next = self._next, next(self._events, None)
        return taken

    def _pass_time(self, *, is_behind: bool) -> None:
        """Live through what happened to the container at this place of the history."""
        while True:
            event = self._next
            if isinstance(event, Freeze) and event.is_behind == is_behind:
                self._wall_s += event.seconds
                self._monotonic_s += 0 if event.monotonic_stops else event.seconds
            elif isinstance(event, Renewal) and not is_behind:
                self._renew(event.answer)
            else:
                return
            self._take()

    def _renew(self, answer: Answer | None) -> None:
        """What the supervisor's keeper does; without an answer yet, its call is noted."""
        self._keeper_answer, self._is_renewing = answer, True
        try:
            if self.run.held is not None:
                self.run.held.renew()
        except TidemarkError as error:
            self.telemetry.error("lease.renewal_failed", error)
        finally:
            self._is_renewing = False

    def _asked_by_keeper(self, *call: Any) -> Any:
        if self._keeper_answer is None:
            self.call = Call(*call)
            raise Unanswered
        return _given(self._keeper_answer)


class AskedPort:
    """A port whose every call is asked of the history."""

    may_hang_on_a_change = True

    def __init__(self, rerun: Rerun, port: str) -> None:
        self._rerun = rerun
        self._port = port

    def __getattr__(self, name: str) -> Any:
        """A method of the port."""
        return partial(self._rerun.ask, self._port, name)


class AskedSource(AskedPort):
    """The server. What never changes is no call: it is answered from the facts."""

    def __init__(self, rerun: Rerun, facts: Facts) -> None:
        super().__init__(rerun, "source")
        self.deployment = facts.deployment
        self.time_of = facts.time_of
        self.oplog_window = facts.oplog_window


class AskedReader(AskedPort):
    """An open stream, with what its last answer has told of the server."""

    def __init__(self, rerun: Rerun, opening: Answer) -> None:
        super().__init__(rerun, "reader")
        self._heard = rerun.heard
        self.opened_at = opening.server_time
        self.opening_token = opening.token

    @property
    def operation_time(self) -> Timestamp | None:
        """See `ports.Reader`."""
        return self._heard.server_time


def _coarse(name: str, value: Any) -> Hashable:
    if name.endswith("_s"):
        return value is None or value > SKEW_S or value  # no call of this scope takes longer
    return in_jumps(value) if name.endswith("_ms") else frozen(value)


def _given(answer: Answer) -> Any:
    if answer.error is not None:
        raise answer.error
    return answer.value
