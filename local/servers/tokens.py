"""Resume tokens in the forms that MongoDB and Amazon DocumentDB give them.

MongoDB: `_data` is hexadecimal, `82`, four bytes of seconds and four of an increment, big-endian,
then the token's version, its kind, its place in a transaction, whether it is an invalidate's, and
for an event the collection's UUID. Source: `src/mongo/db/pipeline/resume_token.h` and
`resume_token.cpp` in mongodb/mongo; the MongoDB manual, "Change Streams", "Resume Tokens".

Amazon DocumentDB: `01`, seconds and increment likewise, then `01`, the increment and `000fe038` for
an event, `04` for a post-batch token. Source: the examples of the developer guide, "Using change
streams with Amazon DocumentDB". How it tells an invalidate is not published: `02` is ours.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any, Literal

from bson.timestamp import Timestamp

Kind = Literal["high_water", "event", "invalidate"]
Token = dict[str, Any]
NO_COLLECTION = ""
MONGODB = re.compile(
    r"82(?P<seconds>[0-9A-F]{8})(?P<increment>[0-9A-F]{8})2B04"
    r"(?P<kind>29296E1404|2C0100296E|2C0100296F)(?:5A1004(?P<collection>[0-9A-F]{32})04)?"
)
DOCUMENTDB = re.compile(
    r"01(?P<seconds>[0-9a-f]{8})(?P<increment>[0-9a-f]{8})"
    r"(?P<kind>04|01|02)(?:[0-9a-f]{8}000fe038)?"
)
MONGODB_KINDS: dict[Kind, str] = {
    "high_water": "29296E1404",
    "event": "2C0100296E",
    "invalidate": "2C0100296F",
}
DOCUMENTDB_KINDS: dict[Kind, str] = {"high_water": "04", "event": "01", "invalidate": "02"}


class BadToken(Exception):
    """The token is not of the server's form."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a token says. A high-water mark stands before every event of its time."""

    time: Timestamp
    kind: Kind
    collection: str = NO_COLLECTION  # its UUID, where the form carries it


class MongoDBForm:
    """Tokens as mongod and mongos give them."""

    def token(self, place: Place) -> Token:
        """The token of a place."""
        named = f"5A1004{uuid.UUID(place.collection).hex.upper()}04" if place.collection else ""
        kind = MONGODB_KINDS[place.kind]
        return {"_data": f"82{place.time.time:08X}{place.time.inc:08X}2B04{kind}{named}"}

    def place(self, token: Token) -> Place:
        """What `token` says. Raises BadToken."""
        return _place(MONGODB, MONGODB_KINDS, token)


class DocumentDBForm:
    """Tokens as Amazon DocumentDB gives them."""

    def token(self, place: Place) -> Token:
        """The token of a place."""
        rest = "" if place.kind == "high_water" else f"{place.time.inc:08x}000fe038"
        kind = DOCUMENTDB_KINDS[place.kind]
        return {"_data": f"01{place.time.time:08x}{place.time.inc:08x}{kind}{rest}"}

    def place(self, token: Token) -> Place:
        """What `token` says. Raises BadToken."""
        return _place(DOCUMENTDB, DOCUMENTDB_KINDS, token)


Form = MongoDBForm | DocumentDBForm


def _place(form: re.Pattern[str], kinds: dict[Kind, str], token: Token) -> Place:
    found = form.fullmatch(str(token.get("_data", "")))
    if not found:
        raise BadToken
    time = Timestamp(int(found["seconds"], 16), int(found["increment"], 16))
    kind = next(kind for kind, sign in kinds.items() if sign == found["kind"])
    collection = found.groupdict().get("collection")
    return Place(time, kind, str(uuid.UUID(collection)) if collection else NO_COLLECTION)
