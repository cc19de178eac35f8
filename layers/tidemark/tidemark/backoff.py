"""How long to wait before the next attempt: exponential, with full jitter. Pure."""

import random
from collections.abc import Callable
from typing import TypeAlias

from tidemark.model import Lease

BASE_S = 0.5
CAP_S = 20.0

Jitter: TypeAlias = Callable[[float, float], float]


def backoff_s(attempts: int, jitter: Jitter, cap_s: float = CAP_S) -> float:
    """Seconds to wait after `attempts` failures: full jitter under an exponential bound."""
    return jitter(0, min(cap_s, BASE_S * 2.0 ** min(attempts - 1, 10)))


def jitter_of(lease: Lease) -> Jitter:
    """Random numbers of one run's own: other runs draw others, a replay the same."""
    return random.Random(f"{lease.stream} {lease.fencing_token}").uniform  # noqa: S311
