"""Taking changes as raw BSON, each decoded by itself: what must look at every change goes here.

It measures (`max_bytes`), puts the fragments of split events together, and sets a document that
cannot be decoded apart from its neighbours. Source: MongoDB manual, `$changeStreamSplitLargeEvent`.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import bson
from bson.codec_options import CodecOptions
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument

from tidemark.model import Change, Read, ReadEnd, Undecodable
from tidemark.mongodb.reader import Answers, Stream
from tidemark.ports import ReadLimits

if TYPE_CHECKING:
    from tidemark.mongodb.replies import Reply

LEGIBLE = ("operationType", "ns", "documentKey", "clusterTime", "wallTime")


class RawIntake:
    """Takes changes one by one; `stream` yields raw documents, `options` decode them."""

    def __init__(self, stream: Stream, answers: Answers, options: CodecOptions[Any]) -> None:
        self.stream = stream
        self.answers = answers
        self._options = options
        self._reply: Reply | None = None
        self._fragments: list[RawBSONDocument] = []
        self._held_back: tuple[Change, int] | None = None

    def take(self, changes: list[Change], limits: ReadLimits) -> Read:
        """Append whole changes; an undecodable one is always alone in its read."""
        taken_bytes, oldest_s = 0, 0.0
        while len(changes) < limits.max_changes:
            arrival = self._next_whole()
            if arrival is None:
                return self._ended(changes)
            change, size = arrival
            if changes and not self._fits(change, taken_bytes + size, limits):
                self._held_back = arrival
                return Read(changes, ReadEnd.FULL)
            changes.append(change)
            taken_bytes, oldest_s = taken_bytes + size, oldest_s or time.monotonic()
            if isinstance(change, Undecodable):
                return Read(changes, ReadEnd.DRAINED)
            if not self.answers.buffered and (
                end := self.answers.end_of_batch(self.stream, changes, oldest_s, limits)
            ):
                return end
        return Read(changes, ReadEnd.FULL)

    def _next_whole(self) -> tuple[Change, int] | None:
        """The next change and its size in bytes; None on an empty answer."""
        if self._held_back is not None:
            arrival, self._held_back = self._held_back, None
            return arrival
        while (document := self._try_next()) is not None:
            self._fragments.append(document)
            split = document.get("splitEvent")
            if split is None or split["fragment"] == split["of"]:
                fragments, self._fragments = self._fragments, []
                return self._decoded(fragments), sum(len(part.raw) for part in fragments)
        return None

    def _try_next(self) -> RawBSONDocument | None:
        document: RawBSONDocument | None
        document, self._reply = self.answers.try_next(self.stream)
        self.answers.taken(1)
        return document

    def _decoded(self, fragments: list[RawBSONDocument]) -> Change:
        """One change out of its fragments, with the last one's `_id`."""
        try:
            change: dict[str, Any] = {}
            for fragment in fragments:
                change |= bson.decode(fragment.raw, self._options)
            change.pop("splitEvent", None)
        except InvalidBSON as cause:
            raw = b"".join(fragment.raw for fragment in fragments)
            return Undecodable(legible(fragments[-1], self._options), raw, cause)
        return change

    def _fits(self, change: Change, size: int, limits: ReadLimits) -> bool:
        within = limits.max_bytes is None or size <= limits.max_bytes
        return within and not isinstance(change, Undecodable)

    def _ended(self, changes: list[Change]) -> Read:
        """As `Answers.ended`, but in the middle of a split event there is no position to store."""
        read = self.answers.ended(self.stream, changes, self._reply)
        end = ReadEnd.DRAINED if read.end is ReadEnd.EMPTY else read.end
        return Read(changes, end) if self._fragments else read


def legible(document: RawBSONDocument, options: CodecOptions[Any]) -> Mapping[str, Any]:
    """The fields of a change that can be decoded by themselves; `_id` always."""
    fields = {"_id": bson.decode(document["_id"].raw, options)}
    for name in LEGIBLE:
        try:
            value = document.get(name)
            if value is not None:
                nested = isinstance(value, RawBSONDocument)
                fields[name] = bson.decode(value.raw, options) if nested else value
        except InvalidBSON:
            continue
    return fields
