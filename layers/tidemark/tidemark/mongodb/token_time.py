"""The time inside MongoDB's resume token: for observation, and for ending a drain. Pure.

A token stays opaque: no position is ever computed from its time. `_data` is hexadecimal text; a
MongoDB token begins with `82` (the type byte of a timestamp in the key-string format), then 4 bytes
of seconds and 4 bytes of increment, both big-endian. Amazon DocumentDB's token begins with `01`:
its form is not published, so its time is unknown.

Sources: MongoDB server, `src/mongo/db/pipeline/resume_token.h` (`ResumeTokenData.clusterTime` is
the first field of the key string) and `src/mongo/db/storage/key_string/key_string.cpp` (the type
byte `kTimestamp`, 130); MongoDB manual, "Resume Tokens from Change Streams".
"""

from bson.timestamp import Timestamp

from tidemark.model import Token

TIMESTAMP = "82"
DIGITS = 18  # the type byte, seconds, increment


def time_of(token: Token) -> Timestamp | None:
    """The server's time of `token`; None where its form is not known."""
    data = token.get("_data")
    if not isinstance(data, str) or not data.startswith(TIMESTAMP) or len(data) < DIGITS:
        return None
    try:
        return Timestamp(int(data[2:10], 16), int(data[10:18], 16))
    except ValueError:
        return None
