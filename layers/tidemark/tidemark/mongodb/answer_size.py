"""How many changes to ask the server for in one answer. Pure.

mongod fills an answer before it sends it: a getMore that has found a change scans on, to its batch
size or to the end of the oplog. On an oplog that is slow to scan, an answer without a limit may
take longer than the run, and the changes that were found never arrive (G11). So an answer to more
than one change that does not come soon is given up, and one change is asked for, however long that
takes; then for twice as many whenever two full answers in a row came quickly.

Source: `generateBatch` in `src/mongo/db/commands/getmore_cmd.cpp`, which asks for the next result
until `enoughForGetMore`; no clock is asked while it scans.
"""

UNLIMITED = 0  # PyMongo sends no `batchSize` for it
LARGEST = 4096  # once an answer was given up
PATIENCE_S = 5.0  # beyond the await at the oplog's end
PATIENCE_SHARE = 0.1  # of the time that a read has
LEAST_S = 0.3  # what a network may take
QUICK_S = 1.0  # beyond the await
QUICK_IN_A_ROW = 2


class AnswerSize:
    """The size for the next answer; `fixed` is what an isolated run asks for, whatever comes."""

    def __init__(self, *, await_s: float, fixed: int | None = None) -> None:
        self.next = UNLIMITED if fixed is None else fixed
        self._is_fixed = fixed is not None
        self._await_s = await_s
        self._quick = 0

    def patience_s(self, timeout_s: float) -> float | None:
        """How long to wait for the next answer, of a read's `timeout_s`; None: all of it.

        All of it, too, where giving up would leave too little to ask again.
        """
        patience_s = self._await_s + max(LEAST_S, min(PATIENCE_S, PATIENCE_SHARE * timeout_s))
        if self._is_fixed or self.next == 1 or 2 * patience_s > timeout_s:
            return None
        return patience_s

    def give_up(self) -> None:
        """An answer did not come: ask for one change, and never without a limit again."""
        self.next, self._quick = 1, 0

    def note(self, changes: int, took_s: float) -> None:
        """An answer of so many changes took so long."""
        if self._is_fixed or self.next == UNLIMITED:
            return
        is_quick = took_s <= self._await_s + QUICK_S and changes >= self.next
        self._quick = self._quick + 1 if is_quick else 0
        if self._quick == QUICK_IN_A_ROW:
            self.next, self._quick = min(LARGEST, self.next * 2), 0
