"""What a bulk sink needs to know of a service, and what the service says of each entry."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tidemark.settings import SinkSettings
from tidemark.sinks.message import Message

# What a request takes at the most: two attempts of 1 s to connect (and, then, to send its 10 MiB)
# and 1.5 s to answer, 1 s apart: as much as a run by default keeps behind its last read.
CONNECT_S, ANSWER_S, ATTEMPTS, PAUSE_S = 1.0, 1.5, 2, 1.0
REQUEST_S = ATTEMPTS * (CONNECT_S + ANSWER_S) + (ATTEMPTS - 1) * PAUSE_S


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one request: entries, bytes in all, bytes of one message; as the service counts."""

    entries: int
    batch_bytes: int
    message_bytes: int

    def overridden(self, sink: SinkSettings) -> "Limits":
        """The limits with what the sink says instead."""
        batch = sink.max_batch_bytes or max(self.batch_bytes, sink.max_message_bytes or 0)
        return Limits(self.entries, batch, min(batch, sink.max_message_bytes or self.message_bytes))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one entry was not taken.

    `rejected`: it never will be, as it is. `turned_away`: nobody looked at it.
    """

    code: str
    rejected: bool = False
    turned_away: bool = False


NO_ANSWER = Failure("NoAnswer")  # the service's answer lacks the entry

Entries = Sequence[Mapping[str, Any]]
Answers = Sequence[Failure | None]


def answers_by_place(
    answer: Any, name: str, proof: str, rejections: Collection[str] = ()
) -> Answers:
    """What an answer says of each entry in its list `name`: taken, if it holds a `proof`."""
    told = answer.get(name) if isinstance(answer, Mapping) else None
    entries = told if isinstance(told, list) else []
    return [
        _answer(each if isinstance(each, Mapping) else {}, proof, rejections) for each in entries
    ]


def _answer(each: Mapping[str, Any], proof: str, rejections: Collection[str]) -> Failure | None:
    code = each.get("ErrorCode")
    if code:
        return Failure(str(code), rejected=code in rejections)
    return None if each.get(proof) else NO_ANSWER


class Target(Protocol):
    """One service: how a message is put into a request, and how a request is sent.

    `keeps_order`: what is sent after the answer to a first request is read after it, within a
    group. One object serves one delivery, whose requests may be sent by several threads.
    """

    @property
    def limits(self) -> Limits:
        """What one request may hold."""

    @property
    def keeps_order(self) -> bool:
        """Whether it is worth keeping the order of a group."""

    @property
    def asks_first(self) -> bool:
        """Whether the next `send` asks for something else."""

    @property
    def permission(self) -> str:
        """The IAM action that the next request needs: what a refusal of it names."""

    def entry(self, message: Message) -> tuple[dict[str, Any], int]:
        """A message as an entry of a request, and its bytes as the service counts them."""

    def send(self, entries: Entries) -> Answers | None:
        """One request, one answer an entry. Raises the SDK's own errors.

        None: something else had to be asked first, and was; the entries are still to be sent.
        """
