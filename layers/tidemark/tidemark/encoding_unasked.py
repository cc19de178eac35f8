"""What orjson writes by itself, and differently from Extended JSON, is found after the fact.

orjson can be told to ask about dates, subclasses and dataclasses (`ASK_FIRST`). It never asks about
NaN and the infinities, which it writes as `null`, nor about a `uuid.UUID`, which it writes as a
string. Both leave a trace that a search of the output finds in a microsecond per kilobyte; a change
without the trace is right, and only one with it is walked. (An enum is not asked about either, but
BSON has none.)
"""

import re
from math import isfinite
from typing import Any, Final
from uuid import UUID

import orjson

ASK_FIRST: Final = (
    orjson.OPT_PASSTHROUGH_DATETIME  # dates are documents in Extended JSON
    | orjson.OPT_PASSTHROUGH_SUBCLASS  # Int64, Code and SON are more than int, str and dict
    | orjson.OPT_PASSTHROUGH_DATACLASS
)
_UUID_TRACE: Final = re.compile(rb'-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"')
_LOOKED_AT: Final = frozenset({dict, list, tuple, float, UUID})


def wrote_unasked(change: Any, body: bytes) -> bool:
    """Tell whether `body`, orjson's writing of the change, hides such a number or UUID."""
    traced = b"null" in body or _UUID_TRACE.search(body) is not None
    return traced and _holds_either(change)


def _holds_either(document: Any) -> bool:
    """Walk what orjson walks without asking: dict, list and tuple."""
    containers = [document]
    for container in containers:  # grows while it is read
        for value in container.values() if type(container) is dict else container:
            if type(value) not in _LOOKED_AT:
                continue
            if type(value) is UUID or (type(value) is float and not isfinite(value)):
                return True
            if type(value) is not float:
                containers.append(value)
    return False
