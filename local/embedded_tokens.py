"""The time in the embedded MongoDB's resume tokens, which have a form of their own.

`_data` is the hexadecimal text of a BSON document with the time as `t`. An opening's token carries
the server's own time at an old position and must not be read; a getMore's is what it seems. With
MongoDB's published form this is what a source needs for the tests to see a lag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import bson
from bson.errors import BSONError
from bson.timestamp import Timestamp

from tidemark.mongodb import token_time

if TYPE_CHECKING:
    from tidemark.model import Token


def time_of(token: Token) -> Timestamp | None:
    """The server's time of a token of MongoDB's or the embedded server's; None of any other."""
    return token_time.time_of(token) or _of_embedded(token)


def _of_embedded(token: Token) -> Timestamp | None:
    try:
        time = bson.decode(bytes.fromhex(str(token.get("_data")))).get("t")
    except (ValueError, BSONError):
        return None
    return time if isinstance(time, Timestamp) else None
