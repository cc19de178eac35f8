"""Python's collector of cyclic garbage, slowed down while changes are read.

A change is a tree: the last reference to it frees it. At its own pace the collector walks every
batch in memory again and again to find nothing, which is half of what a bare `try_next()` loop
costs. Source: docs/decisions/0010.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

PACE = 50_000  # new containers between two collections; Python's own is 700 to 2,000


@contextmanager
def slowed_collector() -> Iterator[None]:
    """Collect at `PACE` for the length of the block; who collects more rarely yet, or not, may."""
    own = gc.get_threshold()
    if 0 < own[0] < PACE:
        gc.set_threshold(PACE, *own[1:])
    try:
        yield
    finally:
        gc.set_threshold(*own)
