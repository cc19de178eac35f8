"""The time inside MongoDB's resume token: for observation, and for ending a drain. Pure.

A token stays opaque: no position is ever computed from its time. `_data` is hexadecimal text; a
MongoDB token begins with `82` (the type byte of a timestamp in the key-string format), then 4 bytes
of seconds and 4 bytes of increment, both big-endian. Amazon DocumentDB's token begins with `01`:
its form is not published, so its time is unknown.

Sources: MongoDB server, `src/mongo/db/pipeline/resume_token.h` (`ResumeTokenData.clusterTime` is
the first field of the key string) and `src/mongo/db/storage/key_string/key_string.cpp` (the type
byte `kTimestamp`, 130); MongoDB manual, "Resume Tokens from Change Streams".
"""

import re

from bson.timestamp import Timestamp

from tidemark.model import Token

FORM = re.compile(r"82([0-9A-Fa-f]{8})([0-9A-Fa-f]{8})")


def time_of(token: Token) -> Timestamp | None:
    """The server's time of `token`; None where its form is not known."""
    data = token.get("_data")
    found = FORM.match(data) if isinstance(data, str) else None
    return None if found is None else Timestamp(int(found[1], 16), int(found[2], 16))
