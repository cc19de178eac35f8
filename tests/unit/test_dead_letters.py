"""What is sent for a dead letter, by its size."""

from __future__ import annotations

from typing import Any

import pytest

from tidemark.deadletters import INLINE_BYTES, QueueDeadLetters, content_of
from tidemark.ports import DeadLetter

QUEUE_LIMIT_BYTES = 262_144  # the least that SQS has had


class Queue:
    """Remembers the body of each message."""

    def __init__(self) -> None:
        self.bodies: list[str] = []

    def send_message(self, **message: Any) -> None:
        """As boto3's."""
        self.bodies.append(message["MessageBody"])


def letter_of(value: Any) -> DeadLetter:
    """One of everything at its longest."""
    return DeadLetter(
        stream="s" * 64,
        change_id="c" * 64,
        change={"_id": {"_data": "x"}, "fullDocument": {"value": value}},
        error_type="E" * 100,
        error_message="\N{GRINNING FACE}" * 2000,
        attempts=10**6,
        first_failed_at_ms=10**13,
        last_failed_at_ms=10**13,
        fencing_token=10**9,
    )


@pytest.mark.parametrize(
    "value",
    [[True] * 47_900, "x" * 239_800, "\N{CYRILLIC SMALL LETTER DE}" * 39_900, ['"'] * 47_000],
    ids=["many values", "one text", "not ASCII", "quotes"],
)
def test_the_largest_inline_letter_is_below_the_queues_limit(value: Any) -> None:
    """The change is measured as it is sent."""
    letter, queue = letter_of(value), Queue()
    QueueDeadLetters("queue", None, lambda: queue, lambda: None).put(letter)  # type: ignore[arg-type,return-value]

    _, payload = content_of(letter)
    [body] = queue.bodies
    assert INLINE_BYTES - 50_000 < len(payload) <= INLINE_BYTES
    assert payload.decode() in body
    assert len(body.encode()) < QUEUE_LIMIT_BYTES
