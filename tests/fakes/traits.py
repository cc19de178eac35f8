"""How a scripted server behaves where real ones differ: each as unkind as the real thing.

The traits' sources stand at the wire-level servers (`local/servers/character.py`), which have them
on the real protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Traits:
    """One server's character; the default is the kindest.

    `entry_s`: what each scanned entry costs. `scan_entries`: after so many without a change a
    getMore answers empty although more follows; None scans on to a change or the end. `scans_on`:
    also past what others wrote (`IDLE`), where else an empty answer comes. `empties`:
    whether the token of such an answer has moved. `closes`: with the invalidate; one answer later
    where it was the last of a full batch; or always one answer later. `closing_tells`: the closing
    answer carries the invalidate's own token. `start_after`: an invalidate's token can be opened.
    `token_times`: tokens have a time that can be read. `loses_at`: when a lost position is told.
    `hides`: fields that the stream's pipeline drops from each change.
    """

    entry_s: float = 0.0
    scan_entries: int | None = None
    scans_on: bool = False
    empties: Literal["moved", "unmoved"] = "moved"
    closes: Literal["at_once", "late_when_full", "late"] = "at_once"
    closing_tells: bool = True
    start_after: bool = True
    token_times: bool = True
    loses_at: Literal["open", "read"] = "open"
    hides: frozenset[str] = frozenset()
    set_name: str | None = "rs0"


KIND = Traits()
